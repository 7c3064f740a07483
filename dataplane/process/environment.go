package process

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/sagelocal/sagelocal/dataplane"
)

// inherited is all that a worker sees of the daemon's own environment; the
// daemon's AWS credentials are not for models. The second line is what Windows
// programs cannot do without.
var inherited = []string{
	"PATH", "HOME", "LANG", "TMPDIR",
	"SYSTEMROOT", "PATHEXT", "COMSPEC", "USERPROFILE", "TEMP", "TMP",
}

// order is what the supervisor is told about an instance.
func (l *launcher) order(spec *dataplane.Spec, ports *ports, modelDir string) order {
	configDir, err := filepath.Abs(l.configDir)
	if err != nil {
		configDir = l.configDir // the working directory is gone; the start will say so
	}
	fill := strings.NewReplacer(
		"{port}", strconv.Itoa(ports.port), "{model_dir}", modelDir, "{config_dir}", configDir,
	).Replace
	o := order{Dir: fill(l.cfg.WorkingDir), MemoryBytes: memoryBytes(spec.Shape)}
	if !filepath.IsAbs(o.Dir) {
		o.Dir = filepath.Join(configDir, o.Dir)
	}
	for _, word := range l.cfg.Command {
		o.Command = append(o.Command, fill(word))
	}
	env := map[string]string{}
	for _, name := range inherited {
		if value, ok := os.LookupEnv(name); ok {
			env[name] = value
		}
	}
	maps.Copy(env, shapeEnvironment(spec.Shape))
	if spec.Key.Region != "" {
		env["AWS_REGION"] = spec.Key.Region
	}
	for name, value := range l.cfg.Env {
		env[name] = fill(value)
	}
	for name, value := range spec.Container.Environment {
		if choosesPrograms(name) {
			fmt.Fprintf(spec.Log, "sagelocal: %s of the model's Environment has no effect on a process\n", name)
			continue
		}
		env[name] = value
	}
	// docs: inference-pipeline-real-time, "Port requirements". A worker has to
	// obey these, so Environment cannot change them.
	env["SAGEMAKER_BIND_TO_PORT"] = strconv.Itoa(ports.port)
	env["SAGEMAKER_SAFE_PORT_RANGE"] = ports.safeRange()
	env["SM_MODEL_DIR"] = modelDir
	if len(spec.Container.AdditionalModelDataSources) > 0 {
		env["SAGELOCAL_ADDITIONAL_MODEL_DATA_DIR"] = filepath.Join(filepath.Dir(modelDir), channelsDir)
	}
	if spec.Container.MultiModel { // docs: build-multi-model-build-container
		env["SAGEMAKER_MULTI_MODEL"] = "true"
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		o.Env = append(o.Env, name+"="+env[name])
	}
	return o
}

// interpreterVariables name code to load or options to run with.
var interpreterVariables = []string{
	"BASH_ENV", "ENV", "PERL5DB", "PERL5LIB", "PERL5OPT", "PYTHONHOME", "PYTHONINSPECT", "PYTHONPATH",
	"PYTHONSTARTUP", "RUBYLIB", "RUBYOPT", "NODE_OPTIONS", "NODE_PATH", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS",
}

// choosesPrograms tells the variables with which the operating system or an
// interpreter picks the code that runs. They come from the operator alone: an
// API request must not be able to name a program.
func choosesPrograms(name string) bool {
	if runtime.GOOS == "windows" {
		name = strings.ToUpper(name)
	}
	return name == "PATH" || strings.HasPrefix(name, "LD_") || strings.HasPrefix(name, "DYLD_") ||
		slices.Contains(interpreterVariables, name)
}

// shapeEnvironment makes the instance type known to the runtimes that ask the
// environment for it. A soft memory limit below the hard one lets Go collect
// garbage before it is refused memory.
func shapeEnvironment(shape dataplane.Shape) map[string]string {
	env := map[string]string{}
	if shape.VCPU > 0 {
		cpus := strconv.Itoa(min(shape.VCPU, runtime.NumCPU()))
		env["GOMAXPROCS"], env["OMP_NUM_THREADS"] = cpus, cpus
	}
	if limit := memoryBytes(shape); limit > 0 {
		env["GOMEMLIMIT"] = strconv.FormatUint(limit/10*9, 10)
	}
	return env
}

func memoryBytes(shape dataplane.Shape) uint64 {
	return uint64(max(0, shape.MemoryGiB) * (1 << 30))
}
