package daemon

import (
	"regexp"

	"github.com/sagelocal/sagelocal/controlplane"
	"github.com/sagelocal/sagelocal/dataplane"
	"github.com/sagelocal/sagelocal/dataplane/process"
	"github.com/sagelocal/sagelocal/dataplane/simulated"
	"github.com/sagelocal/sagelocal/dataplane/upstream"
)

// launchers is the image rules at work.
type launchers struct {
	rules    []launcherRule
	fallback dataplane.Launcher
}

type launcherRule struct {
	image    *regexp.Regexp
	launcher dataplane.Launcher
}

func newLaunchers(c *Config, data *dataplane.ModelData, timeScale float64) *launchers {
	l := &launchers{fallback: simulated.New(simulated.Config{}, controlplane.Shape, timeScale)}
	for _, rule := range c.Images {
		var launcher dataplane.Launcher
		switch {
		case rule.Simulated != nil:
			launcher = simulated.New(*rule.Simulated, controlplane.Shape, timeScale)
		case rule.Process != nil:
			launcher = process.New(*rule.Process, c.dir, data, timeScale)
		case rule.Upstream != nil:
			launcher = upstream.New(*rule.Upstream, timeScale)
		}
		l.rules = append(l.rules, launcherRule{glob(rule.Image), launcher})
	}
	return l
}

// For is the kind of worker that runs an image.
func (l *launchers) For(image string) dataplane.Launcher {
	for _, rule := range l.rules {
		if rule.image.MatchString(image) {
			return rule.launcher
		}
	}
	return l.fallback
}
