package sdkcompat

import (
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sagemakerruntime"
)

func mustConstraints(tb testing.TB) *constraints {
	tb.Helper()
	table, err := constraintTable()
	if err != nil {
		tb.Fatal(err)
	}
	return table
}

var runtimeInputs = map[string]reflect.Type{
	"InvokeEndpoint":                   reflect.TypeFor[sagemakerruntime.InvokeEndpointInput](),
	"InvokeEndpointAsync":              reflect.TypeFor[sagemakerruntime.InvokeEndpointAsyncInput](),
	"InvokeEndpointWithResponseStream": reflect.TypeFor[sagemakerruntime.InvokeEndpointWithResponseStreamInput](),

	// There is no Go module of the service that has it, SageMaker Runtime HTTP2.
	"InvokeEndpointWithBidirectionalStream": reflect.TypeFor[struct{ EndpointName, ModelInvocationPath, ModelQueryString, TargetVariant *string }](),
}

func TestTableKnowsEveryMemberAndEnumValueOfTheSDKInputs(t *testing.T) {
	table := mustConstraints(t)
	if len(table.control) != len(hostingOperations) || len(table.runtime) != len(runtimeInputs) {
		t.Errorf("the table has %d and %d operations", len(table.control), len(table.runtime))
	}
	seen := map[reflect.Type]bool{}
	for operation, types := range hostingOperations {
		compareShape(t, operation, types.in, table.control[operation], seen)
	}
	for operation, in := range runtimeInputs {
		compareShape(t, operation, in, table.runtime[operation], seen)
	}
	if len(seen) < 60 {
		t.Errorf("only %d Go types were compared", len(seen))
	}
}

// compareShape walks a Go type and its shape side by side.
func compareShape(t *testing.T, path string, typ reflect.Type, s *shape, seen map[reflect.Type]bool) {
	t.Helper()
	if s == nil {
		t.Errorf("%s is not in the table", path)
		return
	}
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	switch {
	case typ == reflect.TypeFor[time.Time]() || typ == reflect.TypeFor[[]byte]():
		return
	case typ.Kind() == reflect.Slice || typ.Kind() == reflect.Map:
		compareShape(t, path+"[]", typ.Elem(), s.element, seen)
		return
	case seen[typ]:
		return
	}
	seen[typ] = true
	if values := reflect.Zero(typ).MethodByName("Values"); values.IsValid() {
		compareEnum(t, path, values.Call(nil)[0], s)
	}
	if typ.Kind() != reflect.Struct {
		return
	}
	for _, f := range reflect.VisibleFields(typ) {
		if !f.IsExported() || f.Name == "ResultMetadata" {
			continue
		}
		m, ok := s.member(f.Name)
		if !ok {
			t.Errorf("%s.%s is not in the table", path, f.Name)
			continue
		}
		compareShape(t, path+"."+f.Name, f.Type, m.shape, seen)
	}
}

func compareEnum(t *testing.T, path string, values reflect.Value, s *shape) {
	t.Helper()
	for i := range values.Len() {
		value := values.Index(i)
		text := value.String()
		if value.CanInt() {
			text = strconv.FormatInt(value.Int(), 10)
		}
		if !slices.Contains(s.enum, text) {
			t.Errorf("%s: the enum value %s is not in the table", path, text)
		}
	}
}

// everyShape calls visit once for each shape of the table.
func everyShape(tb testing.TB, visit func(*shape)) {
	seen := map[*shape]bool{}
	var walk func(s *shape)
	walk = func(s *shape) {
		if s == nil || seen[s] {
			return
		}
		seen[s] = true
		visit(s)
		walk(s.key)
		walk(s.element)
		for _, m := range s.members {
			walk(m.shape)
		}
	}
	table := mustConstraints(tb)
	for _, inputs := range []map[string]*shape{table.control, table.runtime} {
		for _, s := range inputs {
			walk(s)
		}
	}
}

func TestEveryPatternCompiles(t *testing.T) {
	used := map[string]bool{}
	everyShape(t, func(s *shape) {
		if s.pattern == nil {
			return
		}
		used[s.pattern.text] = true
		if _, byHand := handMatchers[s.pattern.text]; byHand {
			return
		}
		if _, err := regexp.Compile(toRE2(s.pattern.text)); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
	})
	for text := range handMatchers {
		if !used[text] {
			t.Errorf("the table has no pattern %s any more", text)
		}
	}
	for text := range lookAround {
		if !used[text] {
			t.Errorf("the table has no pattern %s any more", text)
		}
	}
}

// FuzzHandMatchersAgreeWithTheirPatterns holds every hand-written matcher
// against the regular expression that it stands for.
func FuzzHandMatchersAgreeWithTheirPatterns(f *testing.F) {
	compiled := map[string]*regexp.Regexp{}
	for text := range handMatchers {
		re2 := strings.NewReplacer(`\p{ASCII}`, `[\x00-\x7F]`, `\p{Print}`, `\x20-\x7E`).Replace(text)
		re2 = strings.Replace(re2, `\S[`, `[^ \t\n\v\f\r][`, 1)
		compiled[text] = regexp.MustCompile(`^(?:` + re2 + `)$`)
	}
	for _, seed := range []string{
		"", "a", "-", "a-b", "a-", "-a", "a--b", "NEW_SESSION", "a b", " a", "é", "aé", "a\n", "\n", "a\x7f", strings.Repeat("a", 63),
		strings.Repeat("a", 64), strings.Repeat("a-", 62) + "a", strings.Repeat("a-", 63) + "a", "a_b", "A9", "@", "[", "`", "{", "/", ":",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.ToValidUTF8(s, "") != s {
			t.Skip("no request gets here with invalid UTF-8")
		}
		for text, match := range handMatchers {
			if match(s) != compiled[text].MatchString(s) {
				t.Errorf("%s on %q: by hand %v", text, s, match(s))
			}
		}
	})
}

func TestLookAroundPatterns(t *testing.T) {
	const (
		alarm     = `(?!\s*$).+`
		versioned = `(arn:aws[a-z\-]*:sagemaker:[a-z0-9\-]*:[0-9]{12}:[a-z\-]*\/)?([a-zA-Z0-9]([a-zA-Z0-9-]){0,62})(?<!-)(\/[0-9]{1,9})?`
		filename  = `^(?!.*\..*\.)[a-zA-Z0-9][a-zA-Z0-9-_\.]*$`
		extension = `^(?!s3:|https:)[a-zA-Z0-9!_.*'()/-]+$`
	)
	for _, test := range []struct {
		pattern, value string
		want           bool
	}{
		{alarm, "a", true},
		{alarm, " a ", true},
		{alarm, "  ", false},
		{alarm, "", false},
		{alarm, "a\nb", false},
		{versioned, "name", true},
		{versioned, "name/1", true},
		{versioned, "name-", false},
		{versioned, "name-/1", false},
		{versioned, "n", true},
		{versioned, "arn:aws:sagemaker:us-east-1:123456789012:model-package/p/3", true},
		{versioned, strings.Repeat("a", 63), true},
		{versioned, strings.Repeat("a", 64), false},
		{versioned, "name/1234567890", false},
		{filename, "a.bin", true},
		{filename, "a", true},
		{filename, "a.", true},
		{filename, "a.b.c", false},
		{filename, ".a", false},
		{filename, "a_-", true},
		{extension, "out/x", true},
		{extension, "s3://b/k", false},
		{extension, "https:", false},
		{extension, "s3", true},
	} {
		if got := newPattern(test.pattern).match(test.value); got != test.want {
			t.Errorf("%s on %q: got %v", test.pattern, test.value, got)
		}
	}
}
