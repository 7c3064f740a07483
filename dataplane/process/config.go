package process

import (
	"errors"
	"fmt"
	"strings"
)

// Config is the operator's rule for a local process. The placeholders {port},
// {model_dir} and {config_dir} are replaced in Command, in the values of Env
// and in WorkingDir.
type Config struct {
	// Command is the program and its arguments; there is no shell in between. A
	// relative path counts from WorkingDir, a bare name is looked up in PATH.
	Command []string `yaml:"command"`
	// Env is what the image's own ENV is for a container: CreateModel's
	// Environment overrides it.
	Env map[string]string `yaml:"env"`
	// WorkingDir is relative to the configuration file's directory, which is
	// also the default.
	WorkingDir string `yaml:"working_dir"`
	// PingPath and InvocationsPath replace /ping and /invocations.
	PingPath        string `yaml:"ping_path"`
	InvocationsPath string `yaml:"invocations_path"`
}

// Validate tells what cannot be a configuration. It does not look for the
// program, which may be installed later.
func (c Config) Validate() error {
	if len(c.Command) == 0 || c.Command[0] == "" {
		return errors.New("process: command is missing")
	}
	for _, word := range c.Command {
		if strings.ContainsRune(word, 0) {
			return fmt.Errorf("process: command contains a zero byte: %q", word)
		}
	}
	for name, value := range c.Env {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.ContainsRune(value, 0) {
			return fmt.Errorf("process: env: %q cannot be an environment variable", name)
		}
	}
	for key, path := range map[string]string{"ping_path": c.PingPath, "invocations_path": c.InvocationsPath} {
		if path != "" && !strings.HasPrefix(path, "/") {
			return fmt.Errorf("process: %s must begin with a slash: %q", key, path)
		}
	}
	return nil
}
