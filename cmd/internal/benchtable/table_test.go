package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFiguresAreShownWithTheDigitsThatMatter(t *testing.T) {
	for got, want := range map[string]string{
		perSecond(7):           "7/s",
		perSecond(999.6):       "1,000/s",
		perSecond(1234567):     "1,234,567/s",
		times(231.6):           "232 ×",
		times(12.34):           "12.3 ×",
		times(0.823):           "0.82 ×",
		times(0.0331):          "0.0331 ×",
		milliseconds(3.125):    "3.12 ms",
		milliseconds(731):      "731 ms",
		nanoseconds(38.6):      "39 ns",
		nanoseconds(13_412):    "13.4 µs",
		nanoseconds(2_500_000): "2.50 ms",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestMedianOfEvenAndOddNumbers(t *testing.T) {
	if m := median([]float64{9, 1, 5}); m != 5 {
		t.Errorf("odd: %v", m)
	}
	if m := median([]float64{9, 1, 5, 7}); m != 6 {
		t.Errorf("even: %v", m)
	}
}

func TestTableReplacesTheOneInTheDocumentAndNothingElse(t *testing.T) {
	before := "before\n" + fmt.Sprintf(tableBegin, "bench-matrix") + "another\n" + tableEnd + fmt.Sprintf(tableBegin, "bench")
	after := tableEnd + "after\n"
	path := filepath.Join(t.TempDir(), "doc.md")
	if err := os.WriteFile(path, []byte(before+"old\n"+after), 0o600); err != nil {
		t.Fatal(err)
	}
	text := render([]row{{what: "µ", ours: "1"}, {what: "longer", reached: yes}})
	for range 2 {
		if err := writeDoc(path, "bench", text); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := before + "\n" + text + "\n" + after; string(got) != want {
		t.Errorf("document\n%s\nwant\n%s", got, want)
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for _, line := range lines {
		if len([]rune(line)) != len([]rune(lines[0])) {
			t.Errorf("columns are not aligned:\n%s", text)
		}
	}
	if err := os.WriteFile(path, []byte("no table here"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeDoc(path, "bench", text); err == nil {
		t.Error("a document without the table's place was overwritten")
	}
}
