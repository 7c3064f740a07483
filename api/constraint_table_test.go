package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// tableShape is one shape of sdkcompat's constraint table, read here without the
// code that the table is for.
type tableShape struct {
	name      string
	Type      string            `json:"type"`
	Required  []string          `json:"required"`
	Members   map[string]string `json:"members"`
	Headers   map[string]string `json:"headers"`
	Member    string            `json:"member"`
	Key       string            `json:"key"`
	Value     string            `json:"value"`
	Min       json.Number       `json:"min"`
	Max       json.Number       `json:"max"`
	Pattern   string            `json:"pattern"`
	Enum      []string          `json:"enum"`
	Sensitive bool              `json:"sensitive"`
}

type tableService struct {
	Operations map[string]string      `json:"operations"`
	Shapes     map[string]*tableShape `json:"shapes"`
}

func readTable(t *testing.T) (control, runtime *tableService) {
	t.Helper()
	text, err := os.ReadFile("../sdkcompat/constraints.json")
	if err != nil {
		t.Fatal(err)
	}
	var table struct{ Control, Runtime *tableService }
	if err := json.Unmarshal(text, &table); err != nil {
		t.Fatal(err)
	}
	for _, service := range []*tableService{table.Control, table.Runtime} {
		for name, s := range service.Shapes {
			s.name = name
		}
	}
	return table.Control, table.Runtime
}

func (s *tableShape) number() bool { return s.Type == "integer" || s.Type == "float" }

func (s *tableShape) scalar() bool {
	return s.Type != "structure" && s.Type != "list" && s.Type != "map"
}

// limit is min or max as an integer; fallback when there is none.
func limit(n json.Number, fallback int) int {
	if n == "" {
		return fallback
	}
	i, err := strconv.Atoi(string(n))
	if err != nil {
		panic(err)
	}
	return i
}

// pathOf is a member in a sentence: only its first letter is lower-cased.
func pathOf(base, member string) string {
	member = strings.ToLower(member[:1]) + member[1:]
	if base == "" {
		return member
	}
	return base + "." + member
}

// minimal is the smallest value that breaks no constraint.
func (s *tableService) minimal(name string) any {
	shape := s.Shapes[name]
	switch shape.Type {
	case "structure":
		object := map[string]any{}
		for _, member := range shape.Required {
			object[member] = s.minimal(shape.Members[member])
		}
		return object
	case "list":
		list := []any{}
		for range limit(shape.Min, 0) {
			list = append(list, s.minimal(shape.Member))
		}
		return list
	case "map":
		return map[string]any{}
	case "integer", "float":
		return json.Number(slices.Concat(shape.Enum, []string{string(shape.Min), string(shape.Max), "1"})[firstSet(shape)])
	case "boolean":
		return true
	case "timestamp":
		return json.Number("1700000000.123")
	case "blob":
		return "eA=="
	}
	if len(shape.Enum) > 0 {
		return shape.Enum[0]
	}
	text, ok := shape.text(max(limit(shape.Min, 0), 1))
	for n := 2; !ok; n++ {
		text, ok = shape.text(n)
	}
	return text
}

// firstSet is where minimal finds a number: its set, its minimum, its maximum.
func firstSet(s *tableShape) int {
	switch {
	case len(s.Enum) > 0 || s.Min != "":
		return 0
	case s.Max != "":
		return 1
	}
	return 2
}

// text is a string of n characters that the shape's pattern matches.
func (s *tableShape) text(n int) (string, bool) {
	if s.Pattern == "" {
		return strings.Repeat("x", n), true
	}
	sample, ok := samples[s.Pattern]
	if !ok {
		panic("samples has no pattern " + s.Pattern)
	}
	fill := n - len(sample.prefix) - len(sample.suffix)
	switch {
	case slices.Contains(sample.short, strings.Repeat("a", n)):
		return strings.Repeat("a", n), true
	case fill >= 0 && sample.fill != "":
		return sample.prefix + strings.Repeat(sample.fill, fill) + sample.suffix, true
	}
	return "", false
}

// rules are the shape's constraints as AWS writes them, length before pattern
// before set.
func (s *tableShape) rules() []string {
	var all []string
	measure := "length"
	if s.number() {
		measure = "value"
	}
	bound := func(n json.Number) string {
		if s.Type == "float" && !strings.Contains(string(n), ".") {
			return string(n) + ".0" // Java's spelling
		}
		return string(n)
	}
	if s.Max != "" {
		all = append(all, fmt.Sprintf("Member must have %s less than or equal to %s", measure, bound(s.Max)))
	}
	if s.Min != "" {
		all = append(all, fmt.Sprintf("Member must have %s greater than or equal to %s", measure, bound(s.Min)))
	}
	if s.Pattern != "" {
		all = append(all, "Member must satisfy regular expression pattern: "+s.Pattern)
	}
	if len(s.Enum) > 0 {
		all = append(all, "Member must satisfy enum value set: ["+strings.Join(s.Enum, ", ")+"]")
	}
	return all
}

// ruleOf picks one of rules.
func (s *tableShape) ruleOf(constraint string) string {
	word := map[string]string{"max": "less than", "min": "greater than", "pattern": "pattern: ", "enum": "value set: "}[constraint]
	for _, rule := range s.rules() {
		if strings.Contains(rule, word) {
			return rule
		}
	}
	panic(s.name + " has no " + constraint)
}

// shown is a value in a sentence, as Java's toString has it.
func (s *tableService) shown(name string, value any) string {
	shape := s.Shapes[name]
	var parts []string
	switch value := value.(type) {
	case []any:
		for _, v := range value {
			parts = append(parts, s.shown(shape.Member, v))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case map[string]any:
		for _, member := range slices.Sorted(maps.Keys(value)) {
			if shape.Type == "map" {
				parts = append(parts, member+"="+s.shown(shape.Value, value[member]))
			} else {
				parts = append(parts, pathOf("", member)+"="+s.shown(shape.Members[member], value[member]))
			}
		}
		if shape.Type == "map" {
			return "{" + strings.Join(parts, ", ") + "}"
		}
		return shape.name + "(" + strings.Join(parts, ", ") + ")"
	case json.Number:
		if shape.Type == "float" && !strings.Contains(string(value), ".") {
			return string(value) + ".0"
		}
	}
	return fmt.Sprint(value)
}

// sample says which strings a pattern takes: prefix, any number of fill, suffix,
// and those of short; and one that it does not take.
type sample struct {
	prefix, fill, suffix string
	short                []string
	broken               string
}

const anArn = "arn:aws:sagemaker:us-east-1:123456789012:"

// samples are by pattern, so that no expectation rests on a regular expression.
// Between letters any number of hyphens may stand, which is how a name of 64
// characters breaks the length alone.
var samples = map[string]sample{
	`[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}`:              {"a", "-", "Z", []string{"a"}, "-bad-"},
	`[a-zA-Z0-9]([\-a-zA-Z0-9]*[a-zA-Z0-9])?`:       {"a", "-", "9", []string{"a"}, "bad-"},
	`^[a-zA-Z0-9](-*[a-zA-Z0-9])*`:                  {"a", "-", "Z", []string{"a"}, "-bad"},
	`^[a-zA-Z0-9](-*[a-zA-Z0-9])*$`:                 {"a", "-", "Z", []string{"a"}, "a_a"},
	`^[a-zA-Z0-9]([\-a-zA-Z0-9]*[a-zA-Z0-9])?$`:     {"a", "-", "Z", []string{"a"}, "bad-"},
	`^(NEW_SESSION)$|^[a-zA-Z0-9](-*[a-zA-Z0-9])*$`: {"a", "-", "Z", []string{"a"}, "OLD_SESSION"},
	`[a-zA-Z0-9-]+`:                                 {"a", "-", "", nil, "a_b"},
	`[-0-9a-zA-Z]+`:                                 {"a", "-", "", nil, "a b"},
	`[A-Za-z0-9\.\-_]+`:                             {"a", ".", "", nil, "a/b"},
	`[a-zA-Z0-9:/_-]*`:                              {"", ":", "", []string{""}, "a b"},
	`[a-zA-Z_][a-zA-Z0-9_]*`:                        {"_", "9", "", nil, "9_"},
	`/[a-zA-Z0-9/_.\-]*`:                            {"/", ".", "", nil, "metrics"},
	`[\S]+`:                                         {"a", "é", "", nil, "a b"},
	`[\S\s]*`:                                       {"", "\n", "", []string{""}, ""},
	`[\s\S]+`:                                       {"a", " ", "", nil, ""},
	`.*`:                                            {"", "x", "", []string{""}, "a\nb"},
	`(?!\s*$).+`:                                    {"x", " ", "", nil, " \t "},
	`([\p{L}\p{Z}\p{N}_.:/=+\-@]*)`:                 {"", "ß", "", []string{""}, "a#b"},
	`(https|s3)://([^/])/?(.*)`:                     {"s3://b", "/", "", nil, "s3:/b"},
	`(https|s3)://([^/]+)/?(.*)`:                    {"https://b", "/", "", nil, "http://b"},
	`^(https|s3)://([^/]+)/?(.*)$`:                  {"s3://b/", "k", "", nil, "ftp://b/k"},
	`[a-zA-Z0-9](-*[a-zA-Z0-9])*\/[a-zA-Z0-9](-*[a-zA-Z0-9+.])*`: {"a/b", "+", "", nil, "text csv"},
	`[a-zA-Z0-9](-*[a-zA-Z0-9])*\/[a-zA-Z0-9](-*[a-zA-Z0-9.])*`:  {"a/b", ".", "", nil, "text/a+b"},
	`arn:aws[a-z-]*:sagemaker:[a-z0-9-]*:[0-9]{12}:.+`:           {anArn + "x", " ", "", nil, "arn:aws:sagemaker:us-east-1:12345678901:x"},
	`arn:aws[a-z\-]*:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+`:   {"arn:aws:iam::123456789012:role/r", "/", "", nil, "arn:aws:iam::123456789012:user/u"},
	`arn:aws[a-z\-]*:sns:[a-z0-9\-]*:[0-9]{12}:[a-zA-Z0-9_.-]+`:  {"arn:aws-cn:sns::123456789012:t", ".", "", nil, "arn:aws:sqs::123456789012:t"},
	`\p{ASCII}*`:         {"", "~", "", []string{""}, "é"},
	`\A\S[\p{Print}]*\z`: {"a", "~", "", nil, "aé"},
	`^(?!.*\..*\.)[a-zA-Z0-9][a-zA-Z0-9-_\.]*$`:                           {"a.", "-", "", []string{"a"}, "a.b.c"},
	`^(?!s3:|https:)[a-zA-Z0-9!_.*'()/-]+$`:                               {"a", "'", "", nil, "s3://b"},
	`arn:aws[a-z\-]*:sagemaker:[a-z0-9\-]*:[0-9]{12}:[a-z0-9\-]{1,14}/.*`: {anArn + "reservation/", "x", "", nil, anArn + "x"},
	`(arn:aws[a-z\-]*:sagemaker:[a-z0-9\-]*:[0-9]{12}:[a-z\-]*\/)?([a-zA-Z0-9]([a-zA-Z0-9-]){0,62})(?<!-)(\/[0-9]{1,9})?`: {
		anArn, "x", "/name/1", []string{"a"}, "name-/1",
	},
	`^[A-Za-z0-9\-._]+(?:/[A-Za-z0-9\-._]+)*$`: {"a/", ".", "", []string{"a"}, "/a"},
	`^[a-zA-Z0-9][A-Za-z0-9_-]*=(?:[A-Za-z0-9._~\-]|%[0-9A-Fa-f]{2})+(?:&[a-zA-Z0-9][A-Za-z0-9_-]*=(?:[A-Za-z0-9._~\-]|%[0-9A-Fa-f]{2})+)*$`: {
		"a=%41&b=c", "~", "", nil, "a=/",
	},
}
