package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// describeMachine says what the table was measured on and how busy that was
// before. It names neither the host nor any path.
func describeMachine(ctx context.Context, table string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "- Measured %s on %s, %d cores; load average before: %s\n", time.Now().UTC().Format(time.DateOnly),
		field("/proc/cpuinfo", "model name", ":", runtime.GOARCH), runtime.NumCPU(), loadAverage())
	fmt.Fprintf(&b, "- %s, kernel %s, %s\n", strings.Trim(field("/etc/os-release", "PRETTY_NAME", "=", runtime.GOOS), `"`),
		firstWord("/proc/sys/kernel/osrelease"), runtime.Version())
	var versions []string
	for _, v := range []struct {
		name    string
		command []string
	}{
		{"HAProxy", []string{"haproxy", "-v"}},
		{"nginx", []string{"nginx", "-v"}},
		{"wrk", []string{"wrk", "-v"}},
		{"moto", []string{"python3", "-c", "import moto; print(moto.__version__)"}},
	} {
		versions = append(versions, v.name+" "+versionOf(ctx, v.command))
	}
	fmt.Fprintf(&b, "- %s\n- Again: `make %s`\n", strings.Join(versions, ", "), table)
	return b.String()
}

var versionNumber = regexp.MustCompile(`\d+\.\d+[.\d]*`)

func versionOf(ctx context.Context, command []string) string {
	program, err := tool(command[0], "")
	if err != nil {
		return "not installed"
	}
	// wrk ends with an error status after its version.
	out, _ := exec.CommandContext(ctx, program, command[1:]...).CombinedOutput()
	if v := versionNumber.FindString(string(out)); v != "" {
		return v
	}
	return "not installed"
}

// field reads the first "name<separator>value" line of a file.
func field(path, name, separator, otherwise string) string {
	text, _ := os.ReadFile(path) // not on every system
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, separator); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return otherwise
}

func firstWord(path string) string {
	text, _ := os.ReadFile(path)
	word, _, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	if word == "" {
		return "unknown"
	}
	return word
}

func loadAverage() string { return firstWord("/proc/loadavg") }
