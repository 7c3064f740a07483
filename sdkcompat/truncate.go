package sdkcompat

// Truncate cuts s to at most n bytes, at a character's border. The service model
// bounds texts in characters, which are never more than bytes.
func Truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n]
}
