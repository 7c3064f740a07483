package api

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// verdict is what the express lane makes of the bytes that have come.
type verdict int

const (
	partial verdict = iota // of a request that may turn out plain
	plain
	other // for fasthttp
)

// plainRequest is an InvokeEndpoint of the one form that the express lane reads
// itself: every SDK sends it. The lane takes nothing that could be read in two
// ways. Whatever is odd, wrong or about the connection is other, and fasthttp
// reads it from its first byte.
type plainRequest struct {
	endpoint []byte
	host     []byte
	body     []byte
	length   int // Content-Length; -1: none was read
	size     int // of head and body; 0 until the head is whole
}

var (
	plainStart = []byte("POST /endpoints/")
	plainEnd   = []byte("/invocations HTTP/1.1\r\n")
)

const (
	maxPlainName      = 63 // EndpointName's longest
	maxPlainSagemaker = 16 // X-Amzn-Sagemaker- headers; there are 12 of them
)

// read takes the request apart that begins with b, of which limit is the largest
// that may be waited for. The headers are views of b, in which their names are
// made canonical.
func (p *plainRequest) read(b []byte, limit int, h *invokeHeaders) verdict {
	*p = plainRequest{length: -1}
	*h = invokeHeaders{sagemaker: h.sagemaker[:0]}
	if n := min(len(b), len(plainStart)); !bytes.Equal(b[:n], plainStart[:n]) {
		return other
	}
	if len(b) < len(plainStart)+maxPlainName+len(plainEnd) && bytes.IndexByte(b, '\n') < 0 {
		return partial
	}
	rest := b[len(plainStart):]
	n := 0
	for n < len(rest) && isNameByte(rest[n]) {
		n++
	}
	p.endpoint = rest[:n]
	if rest = rest[n:]; n == 0 || n > maxPlainName || !bytes.HasPrefix(rest, plainEnd) {
		return other
	}
	rest = rest[len(plainEnd):]
	for {
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			return partialIf(len(b) < min(limit, maxHeaderBytes))
		}
		line := rest[:end]
		rest = rest[end+1:]
		if end == 0 || line[end-1] != '\r' {
			return other
		}
		if end == 1 {
			break
		}
		if !p.header(line[:end-1], h) {
			return other
		}
	}
	head := len(b) - len(rest)
	if p.host == nil || p.length < 0 || p.length > limit-head || head > maxHeaderBytes {
		return other
	}
	p.size = head + p.length
	if len(b) < p.size {
		return partial
	}
	p.body = b[head:p.size]
	return plain
}

func partialIf(fits bool) verdict {
	if fits {
		return partial
	}
	return other
}

func isNameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-'
}

// header takes one line; false if it makes the request another one's business.
func (p *plainRequest) header(line []byte, h *invokeHeaders) bool {
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 {
		return false
	}
	name, value := line[:colon], bytes.Trim(line[colon+1:], " \t")
	if !canonical(name) || !printableASCII(value) {
		return false
	}
	switch n := text(name); n {
	case "Host":
		first := p.host == nil
		p.host = value
		return first && len(value) > 0
	case "Content-Length":
		first := p.length < 0
		p.length = smallNumber(value)
		return first && p.length >= 0
	case "Content-Type":
		first := h.contentType == ""
		h.contentType = text(value)
		return first
	case "Accept":
		if h.accept == "" {
			h.accept = text(value)
		}
	case "Authorization":
		if len(h.authorization) == 0 {
			h.authorization = value
		}
	case "Connection":
		return strings.EqualFold(text(value), "keep-alive")
	case "Transfer-Encoding", "Expect", "Upgrade", "Trailer", "Te", "Proxy-Connection", "Keep-Alive", "Origin", "Sec-Fetch-Site", "Cookie":
		return false
	default:
		if strings.HasPrefix(n, sagemakerPrefix) {
			h.sagemaker = append(h.sagemaker, invokeHeader{n, text(value)})
			return len(h.sagemaker) <= maxPlainSagemaker
		}
	}
	return true
}

// canonical writes a header's name as fasthttp and net/http do; false for one
// that is more than letters, digits and hyphens.
func canonical(name []byte) bool {
	table := &initials
	for i, c := range name {
		if table[c] == 0 {
			return false
		}
		name[i] = table[c]
		if table = &others; c == '-' {
			table = &initials
		}
	}
	return true
}

// initials and others are the letters of names at the beginning of a word and in
// it; 0 for what is in no usual name.
var initials, others = func() (upper, lower [256]byte) {
	for c := range 256 {
		if b := byte(c); isNameByte(b) {
			upper[c], lower[c] = bytes.ToUpper([]byte{b})[0], bytes.ToLower([]byte{b})[0]
		}
	}
	return upper, lower
}()

// printableASCII looks at eight bytes at a time: those of a signature are many.
func printableASCII(b []byte) bool {
	const ones = 0x0101010101010101
	const highs = 0x80 * ones
	for ; len(b) >= 8; b = b[8:] {
		x := binary.LittleEndian.Uint64(b)
		// A byte is below 0x20 if it borrows, and above 0x7e if it carries.
		if ((x-0x20*ones)|(x+ones)|x)&highs != 0 {
			return false
		}
	}
	for _, c := range b {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// smallNumber is a Content-Length of up to 9 digits; -1 for anything else.
func smallNumber(b []byte) int {
	if len(b) == 0 || len(b) > 9 {
		return -1
	}
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return -1
		}
		n = n*10 + int(c-'0')
	}
	return n
}
