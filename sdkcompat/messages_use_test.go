package sdkcompat

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// sources parses the packages' files, without their tests.
func sources(t *testing.T, dirs ...string) map[string]*ast.File {
	t.Helper()
	files := map[string]*ast.File{}
	for _, dir := range dirs {
		paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			if files[path], err = parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution); err != nil {
				t.Fatal(err)
			}
		}
	}
	return files
}

// messageNames are the catalogue's variables. They are in its order: that of their
// files, and in each that of their declaration.
func messageNames(t *testing.T) map[string]*Message {
	t.Helper()
	all, names := Messages(), map[string]*Message{}
	files := sources(t, ".")
	for _, path := range slices.Sorted(maps.Keys(files)) {
		ast.Inspect(files[path], func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 {
				return true
			}
			if call, ok := spec.Values[0].(*ast.CallExpr); ok && isName(call.Fun, "message") && len(names) < len(all) {
				names[spec.Names[0].Name] = all[len(names)]
			}
			return false
		})
	}
	if len(names) != len(all) {
		t.Fatalf("the files declare %d messages, the catalogue has %d", len(names), len(all))
	}
	return names
}

func isName(x ast.Expr, name string) bool {
	id, ok := x.(*ast.Ident)
	return ok && id.Name == name
}

// ofSDKCompat is the name that an expression takes from this package.
func ofSDKCompat(x ast.Expr) string {
	if s, ok := x.(*ast.SelectorExpr); ok && isName(s.X, "sdkcompat") {
		return s.Sel.Name
	}
	return ""
}

func TestSentencesComeFromTheCatalogue(t *testing.T) {
	names := messageNames(t)
	checked := 0
	for path, file := range sources(t, "../api", "../controlplane", "../controlplane/async") {
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BasicLit:
				if isSentence(n) {
					t.Errorf("%s says %s: put it into the catalogue", path, n.Value)
				}
			case *ast.CompositeLit:
				if ofSDKCompat(n.Type) == "Error" {
					t.Errorf("%s makes an Error of its own: take a Message of messages.go", path)
				}
			case *ast.CallExpr:
				checked += checkValues(t, path, n, names)
			}
			return true
		})
	}
	if checked < 100 {
		t.Errorf("only %d uses of the catalogue were found", checked)
	}
}

// isSentence tells text for people from names: several words that begin with a
// capital letter, and a full stop at their end or a value among them. Errors that
// only a log shows begin with a small letter.
func isSentence(literal *ast.BasicLit) bool {
	text, err := strconv.Unquote(literal.Value)
	if err != nil || literal.Kind != token.STRING {
		return false
	}
	first, _ := utf8.DecodeRuneInString(text)
	return unicode.IsUpper(first) && strings.Contains(text, " ") && (strings.HasSuffix(text, ".") || strings.Contains(text, "%"))
}

// checkValues holds that a call of a message's method has a value for each name.
func checkValues(t *testing.T, path string, call *ast.CallExpr, names map[string]*Message) int {
	t.Helper()
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || method.Sel.Name != "Error" && method.Sel.Name != "Sentence" || call.Ellipsis.IsValid() {
		return 0
	}
	m := names[ofSDKCompat(method.X)]
	if m == nil {
		return 0
	}
	if want := m.Placeholders(); len(call.Args) != len(want) {
		t.Errorf("%s gives %d values to %q, which takes %q", path, len(call.Args), m.Text, want)
	}
	return 1
}

// A sentence that nobody says has no place in the catalogue.
func TestEveryMessageIsUsed(t *testing.T) {
	used := map[string]bool{}
	for path, file := range sources(t, ".", "../api", "../controlplane", "../controlplane/async") {
		if strings.HasPrefix(path, "messages") {
			continue
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok {
				used[id.Name] = true
			}
			return true
		})
	}
	for name, m := range messageNames(t) {
		if !used[name] {
			t.Errorf("nothing says %s: %q", name, m.Text)
		}
	}
}
