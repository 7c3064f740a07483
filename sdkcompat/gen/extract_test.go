package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const smallModel = `{
 "metadata": {"uid": "x"},
 "operations": {
  "Put": {"documentation": "<p>words</p>", "input": {"shape": "PutInput"}},
  "Other": {"input": {"shape": "OtherInput"}}
 },
 "shapes": {
  "PutInput": {"type": "structure", "documentation": "words", "required": ["B", "A"], "members": {
   "A": {"shape": "Names", "documentation": "words"},
   "B": {"shape": "Kind", "location": "header", "locationName": "X-Kind"},
   "C": {"shape": "PutInput"}}},
  "Names": {"type": "list", "member": {"shape": "Name"}, "max": 2},
  "Name": {"type": "string", "pattern": "a<b", "min": 0.25, "box": true},
  "Kind": {"type": "string", "enum": ["Z", "A"]},
  "OtherInput": {"type": "structure"}
 }
}`

func table(t *testing.T, text string) object {
	t.Helper()
	o, err := decodeObject(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestExtractKeepsNamesAndNumbersThatInputsReach(t *testing.T) {
	got, err := extract(table(t, smallModel), []string{"Put"})
	if err != nil {
		t.Fatal(err)
	}
	merge(got, table(t, `{"shapes": {"PutInput": {"optional": ["A"]}, "Kind": {"enum": ["M", "A"]}, "New": {"type": "string"}}}`))
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"operations":{"Put":"PutInput"},"shapes":{` +
		`"Kind":{"enum":["A","M","Z"],"type":"string"},` +
		`"Name":{"min":0.25,"pattern":"a\u003cb","type":"string"},` +
		`"Names":{"max":2,"member":"Name","type":"list"},` +
		`"New":{"type":"string"},` +
		`"PutInput":{"headers":{"B":"X-Kind"},"members":{"A":"Names","B":"Kind","C":"PutInput"},"required":["B"],"type":"structure"}}}`
	if string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
}

func TestNumbersInASetAreOrderedByValue(t *testing.T) {
	got := sorted([]any{"120", "10", "60", "10"})
	if len(got) != 3 || got[0] != "10" || got[1] != "60" || got[2] != "120" {
		t.Errorf("got %v", got)
	}
}

func TestMissingShapesAreReported(t *testing.T) {
	for _, text := range []string{
		`{"operations":{}}`,
		`{"operations":{"Put":{}}}`,
		`{"operations":{"Put":{"input":{"shape":"In"}}},"shapes":{}}`,
		`{"operations":{"Put":{"input":{"shape":"In"}}},"shapes":{"In":{"type":"structure","members":{"A":{"shape":"Gone"}}}}}`,
	} {
		if got, err := extract(table(t, text), []string{"Put"}); err == nil {
			t.Errorf("%s gave %v", text, got)
		}
	}
	err := check(table(t, `{"control":{"shapes":{"L":{"type":"list","member":"Gone"}}}}`))
	if err == nil || !strings.Contains(err.Error(), "Gone") {
		t.Errorf("got %v", err)
	}
}

func TestRunRefusesAnUnreadableModel(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "service-2.json.gz")
	if err := os.WriteFile(path, []byte("not gzip"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := run(path, path, filepath.Join(dir, "out.json")); err == nil {
		t.Error("no error")
	}
}
