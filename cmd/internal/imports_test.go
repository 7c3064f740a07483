package internal

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/sagelocal/sagelocal/"

// may says what each part of the house may import of the others, tests aside.
var may = map[string][]string{
	"cmd":          {"api", "controlplane", "dataplane", "store", "sdkcompat"},
	"api":          {"controlplane", "dataplane", "sdkcompat"},
	"controlplane": {"dataplane", "store", "sdkcompat"},
	"dataplane":    nil,
	"store":        nil,
	"sdkcompat":    nil,
}

func TestImportsRunOneWay(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", module+"...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	decoder, packages := json.NewDecoder(strings.NewReader(string(out))), 0
	for {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages++
		from := part(p.ImportPath)
		allowed, known := may[from]
		if !known {
			t.Errorf("%s is in none of the project's folders", p.ImportPath)
		}
		for _, imported := range p.Imports {
			to := part(imported)
			if to != "" && to != from && !slices.Contains(allowed, to) {
				t.Errorf("%s imports %s", p.ImportPath, imported)
			}
		}
	}
	if packages < 10 {
		t.Errorf("go list found %d packages only", packages)
	}
}

// The kinds of worker build on package dataplane, never the other way round. It
// builds on the event loops, which know nothing of ours.
func TestDataplaneImportsNoKindOfWorker(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-f", `{{join .Imports "\n"}}`, module+"dataplane")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for imported := range strings.Lines(string(out)) {
		if imported = strings.TrimSpace(imported); strings.HasPrefix(imported, module) && imported != module+"dataplane/eventloop" {
			t.Errorf("package dataplane imports %s", imported)
		}
	}
}

// part is the top-level folder of one of our packages; empty for others.
func part(path string) string {
	rest, ours := strings.CutPrefix(path, module)
	if !ours {
		return ""
	}
	top, _, _ := strings.Cut(rest, "/")
	return top
}
