package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/pflag"

	"github.com/sagelocal/sagelocal/dataplane/routelab"
)

// benchOutput names the files that the bench writes; - is standard output.
type benchOutput struct{ json, csv, html, samples string }

func (o *benchOutput) register(flags *pflag.FlagSet) {
	flags.StringVar(&o.json, "json", "", "write the report as JSON to this file; - is standard output")
	flags.StringVar(&o.csv, "csv", "", "write one row a run to this file")
	flags.StringVar(&o.html, "html", "", "write a report with charts to this file, which needs no network to be read")
	flags.StringVar(&o.samples, "samples", "", "write every measured request to this file, one JSON object a line")
}

// benchFiles are open before anything is measured, so that a path that cannot be
// written costs no measurement.
type benchFiles struct {
	json, csv, html, samples io.Writer // nil where none is wanted
	toStdout                 bool      // the table then goes to standard error

	buffer  *bufio.Writer // of samples
	encode  *json.Encoder
	failed  error // of the first sample that could not be written
	closers []io.Closer
}

func (o *benchOutput) open(stdout io.Writer) (*benchFiles, error) {
	f := new(benchFiles)
	for _, file := range []struct {
		path string
		to   *io.Writer
	}{{o.json, &f.json}, {o.csv, &f.csv}, {o.html, &f.html}, {o.samples, &f.samples}} {
		switch file.path {
		case "":
		case "-":
			*file.to, f.toStdout = stdout, true
		default:
			created, err := os.Create(file.path)
			if err != nil {
				return nil, errors.Join(err, f.close())
			}
			*file.to = created
			f.closers = append(f.closers, created)
		}
	}
	if f.samples != nil {
		f.buffer = bufio.NewWriterSize(f.samples, 1<<20)
		f.encode = json.NewEncoder(f.buffer)
	}
	return f, nil
}

// observe is nil when nobody wants samples.
func (f *benchFiles) observe() func(routelab.Sample) {
	if f.encode == nil {
		return nil
	}
	return func(s routelab.Sample) {
		if f.failed == nil {
			f.failed = f.encode.Encode(s)
		}
	}
}

func (f *benchFiles) write(r *routelab.Report, stdout, stderr io.Writer) error {
	table := stdout
	if f.toStdout {
		table = stderr
	}
	fmt.Fprintln(table)
	errs := []error{r.WriteTable(table)}
	if f.json != nil {
		e := json.NewEncoder(f.json)
		e.SetIndent("", "  ")
		errs = append(errs, e.Encode(r))
	}
	if f.csv != nil {
		errs = append(errs, r.WriteCSV(f.csv))
	}
	if f.html != nil {
		errs = append(errs, r.WriteHTML(f.html))
	}
	return errors.Join(errs...)
}

func (f *benchFiles) close() error {
	errs := []error{f.failed}
	if f.buffer != nil {
		errs = append(errs, f.buffer.Flush())
	}
	for _, c := range f.closers {
		errs = append(errs, c.Close())
	}
	f.closers, f.buffer, f.failed = nil, nil, nil
	return errors.Join(errs...)
}
