// Command study draws the charts of docs/routing.md.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
)

func main() {
	dir := flag.String("out", "docs/pictures", "folder of the charts")
	only := flag.String("only", "", "draw only the chart of that name")
	flag.Parse()
	if err := drawAll(*dir, *only); err != nil {
		fmt.Fprintln(os.Stderr, "study:", err)
		os.Exit(1)
	}
}

func drawAll(dir, only string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	for _, s := range studies {
		if only != "" && s.name != only {
			continue
		}
		if err := write(ctx, s, dir); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

func write(ctx context.Context, s study, dir string) error {
	panels, err := s.panels(ctx)
	if err != nil {
		return err
	}
	name := filepath.Join(dir, "routing-"+s.name+".svg")
	if err := render(name, panels); err != nil {
		return err
	}
	for _, p := range panels {
		fmt.Printf("\n%s: %s\n", s.name, strings.ReplaceAll(p.title, "\n", " "))
		for _, l := range p.lines {
			fmt.Printf("  %-28s", l.name)
			for _, pt := range l.points {
				fmt.Printf("  %.4g: %.4g [%.4g %.4g]", pt.x, pt.y, pt.low, pt.high)
			}
			fmt.Println()
		}
	}
	return nil
}
