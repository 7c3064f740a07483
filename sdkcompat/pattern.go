package sdkcompat

import (
	"regexp"
	"strings"
	"sync"
)

// pattern is a constraint of the service model. AWS matches the whole value.
type pattern struct {
	text string // as messages show it
	// matcher compiles at first use.
	matcher func() func(string) bool
}

func newPattern(text string) *pattern {
	return &pattern{text, sync.OnceValue(func() func(string) bool { return compilePattern(text) })}
}

func (p *pattern) match(s string) bool { return p.matcher()(s) }

// compilePattern takes a hand-written function where one exists: names and
// headers are on the invocation path, and RE2 takes microseconds for them.
func compilePattern(text string) func(string) bool {
	if match, ok := handMatchers[text]; ok {
		return match
	}
	re, err := regexp.Compile(toRE2(text))
	if err != nil {
		// Not reached with the embedded table, which a test compiles. A caller
		// is better served unchecked than refused for a pattern nobody can run.
		return func(string) bool { return true }
	}
	return re.MatchString
}

// lookAround holds the patterns whose look-ahead or look-behind RE2 lacks, each
// with an equal that does without.
var lookAround = map[string]string{
	// One character at least that is not white space.
	`(?!\s*$).+`: `.*\S.*`,
	// The name must not end in a hyphen.
	`(arn:aws[a-z\-]*:sagemaker:[a-z0-9\-]*:[0-9]{12}:[a-z\-]*\/)?([a-zA-Z0-9]([a-zA-Z0-9-]){0,62})(?<!-)(\/[0-9]{1,9})?`: `(arn:aws[a-z\-]*:sagemaker:[a-z0-9\-]*:[0-9]{12}:[a-z\-]*\/)?[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(\/[0-9]{1,9})?`,
	// One dot at most.
	`^(?!.*\..*\.)[a-zA-Z0-9][a-zA-Z0-9-_\.]*$`: `[a-zA-Z0-9][a-zA-Z0-9\-_]*(\.[a-zA-Z0-9\-_]*)?`,
	// The class has no colon, so neither scheme can occur.
	`^(?!s3:|https:)[a-zA-Z0-9!_.*'()/-]+$`: `[a-zA-Z0-9!_.*'()/-]+`,
}

func toRE2(text string) string {
	if equal, ok := lookAround[text]; ok {
		text = equal
	}
	return `^(?:` + text + `)$`
}

var handMatchers = map[string]func(string) bool{
	`[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}`:              func(s string) bool { return hyphenated(s, 63) },
	`[a-zA-Z0-9]([\-a-zA-Z0-9]*[a-zA-Z0-9])?`:       isHyphenated,
	`^[a-zA-Z0-9](-*[a-zA-Z0-9])*`:                  isHyphenated,
	`^[a-zA-Z0-9](-*[a-zA-Z0-9])*$`:                 isHyphenated,
	`^[a-zA-Z0-9]([\-a-zA-Z0-9]*[a-zA-Z0-9])?$`:     isHyphenated,
	`^(NEW_SESSION)$|^[a-zA-Z0-9](-*[a-zA-Z0-9])*$`: func(s string) bool { return s == "NEW_SESSION" || isHyphenated(s) },
	`\A\S[\p{Print}]*\z`:                            isPrintable,
	`\p{ASCII}*`:                                    isASCII,
	`.*`:                                            func(s string) bool { return strings.IndexByte(s, '\n') < 0 },
	`[\S\s]*`:                                       func(string) bool { return true },
}

func isHyphenated(s string) bool { return hyphenated(s, len(s)) }

// hyphenated tells whether s is letters and digits with hyphens only between
// them, and of letters and digits no more than limit.
func hyphenated(s string, limit int) bool {
	count := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z':
			count++
		case c != '-':
			return false
		}
	}
	return count > 0 && count <= limit && s[0] != '-' && s[len(s)-1] != '-'
}

// isPrintable is Java's \S[\p{Print}]*: anything but white space, then
// printable ASCII.
func isPrintable(s string) bool {
	for i, r := range s {
		if i == 0 {
			if strings.ContainsRune(" \t\n\v\f\r", r) {
				return false
			}
			continue
		}
		if r < ' ' || r > '~' {
			return false
		}
	}
	return s != ""
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
