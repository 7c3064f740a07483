package sdkcompat

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/fidelity.md's table of messages anew")

func TestSentencePutsValuesInPlaceOfNames(t *testing.T) {
	m := &Message{Code: "ServiceUnavailable", Text: `{a} {"b": [{}]} {a}{c} {D} {`}
	if got, want := m.Sentence("{c}", 2), `{c} {"b": [{}]} {c}2 {D} {`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := m.Sentence("x"), `x {"b": [{}]} x{c} {D} {`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := m.Placeholders(); !slices.Equal(got, []string{"a", "c"}) {
		t.Errorf("got %q", got)
	}
	if e := m.Error("x", "y"); e.Code != "ServiceUnavailable" || e.Status != 503 || e.Message != m.Sentence("x", "y") {
		t.Errorf("got %+v", e)
	}
	if got := EndpointUnknown.Error("e", "123456789012"); got.Status != 400 || got.Message != "Endpoint e of account 123456789012 not found." {
		t.Errorf("got %+v", got)
	}
}

func TestEveryMessageHasACodeAndAMark(t *testing.T) {
	seen := map[[2]string]bool{}
	for _, m := range Messages() {
		if m.Code == "" || !slices.Contains([]Mark{Seen, Documented, Chosen}, m.Mark) {
			t.Errorf("%+v", m)
		}
		if m.Mark != Chosen && m.Source == "" {
			t.Errorf("%q is %s, but not said where", m.Text, m.Mark)
		}
		if key := [2]string{m.Code, m.Text}; seen[key] {
			t.Errorf("%q is there twice", m.Text)
		} else {
			seen[key] = true
		}
	}
	if len(seen) < 80 {
		t.Errorf("the catalogue has only %d messages", len(seen))
	}
}

// messageTable is the catalogue as docs/fidelity.md shows it.
func messageTable() string {
	var out strings.Builder
	out.WriteString("| answered as | sentence | mark | source |\n|---|---|---|---|\n")
	cell := strings.NewReplacer("|", `\|`, "\n", " ").Replace
	for _, m := range Messages() {
		sentence := "no message"
		if m.Text != "" {
			sentence = "`" + cell(m.Text) + "`"
		}
		fmt.Fprintf(&out, "| %s | %s | %s | %s |\n", m.Code, sentence, m.Mark, cell(m.Source))
	}
	return out.String()
}

// Run with -update after a change of the catalogue.
func TestFidelityShowsTheCatalogue(t *testing.T) {
	const path = "../docs/fidelity.md"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(text), "\n## Messages\n")
	if !ok {
		t.Fatal("docs/fidelity.md has no section Messages")
	}
	section, tail, _ := strings.Cut(rest, "\n## ")
	prose, table, _ := strings.Cut(section, "\n| ")
	want := messageTable()
	if "| "+table == want {
		return
	}
	if !*update {
		t.Fatal("docs/fidelity.md does not show the catalogue of messages.go: go test ./sdkcompat -run TestFidelityShowsTheCatalogue -update")
	}
	anew := head + "\n## Messages\n" + strings.TrimRight(prose, "\n") + "\n\n" + want
	if tail != "" {
		anew += "\n## " + tail
	}
	if err := os.WriteFile(path, []byte(anew), 0o644); err != nil {
		t.Fatal(err)
	}
}
