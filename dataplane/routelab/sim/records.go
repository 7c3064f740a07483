package sim

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/sagelocal/sagelocal/dataplane"
)

// Record is one recorded request.
type Record struct {
	Start    float64 // seconds since any moment
	Latency  float64 // seconds
	Instance string  // empty when it is not known; unique over the runs in a file
	Run      string  // which of them
	Strategy string  // of that run; empty when it is not known
	// Concurrency is how many requests the instance had when this one came, this
	// one included; 0 when it is not known.
	Concurrency int
}

// maxLine bounds a line of a file of records, bytes: a captured request and its
// answer, 25 MB each, in base64.
const maxLine = 2*4*25<<20/3 + 64<<10

// recordLine is one line in JSON. Fields that are not here, such as the strategy
// or the body's size, are allowed.
type recordLine struct {
	Start       *float64 `json:"start_seconds"`
	At          *float64 `json:"at_seconds"` // start_seconds in bench's traces
	Latency     float64  `json:"latency_seconds"`
	Wait        float64  `json:"wait_seconds"` // of the latency, before it was sent
	Instance    string   `json:"instance"`
	Concurrency int      `json:"concurrency"`
	Status      *int     `json:"status"`
	Strategy    string   `json:"strategy"`
	Repetition  int      `json:"repetition"`
	// What a line of captured data has instead.
	Captured dataplane.CapturedMetadata `json:"eventMetadata"`
	Timing   *dataplane.CaptureTiming   `json:"sagelocal"`
}

// ReadRecords reads recorded requests, as sagelocal bench writes them: one JSON
// object a line with start_seconds, latency_seconds, instance, status,
// concurrency, strategy and repetition, or CSV with a header line of these names.
// Only start_seconds is required, latency_seconds too for a fit. Lines of captured
// data (docs: model-monitor-data-capture-endpoint) are read too; they have latencies
// and instances where the daemon was told to add them. Requests whose status is not 2xx are left out: their latency says nothing of the work. An
// error names the line. The records come ordered by start.
func ReadRecords(r io.Reader) ([]Record, error) {
	buffered := bufio.NewReader(r)
	first, err := peekByte(buffered)
	if err != nil {
		return nil, err
	}
	var records []Record
	if first == '{' {
		records, err = readLines(buffered)
	} else {
		records, err = readCSV(buffered)
	}
	if err != nil {
		return nil, err
	}
	if len(records) == 0 {
		return nil, errors.New("there is no record of an answered request")
	}
	slices.SortStableFunc(records, func(a, b Record) int {
		switch {
		case a.Start < b.Start:
			return -1
		case a.Start > b.Start:
			return 1
		}
		return 0
	})
	return records, nil
}

// ReadRecordsFile reads a file.
func ReadRecordsFile(name string) ([]Record, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	records, err := ReadRecords(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return records, nil
}

// peekByte is the first byte that is not white space.
func peekByte(r *bufio.Reader) (byte, error) {
	for {
		b, err := r.ReadByte()
		switch {
		case errors.Is(err, io.EOF):
			return 0, errors.New("the file is empty")
		case err != nil:
			return 0, err
		case !strings.ContainsRune(" \t\r\n", rune(b)):
			return b, r.UnreadByte()
		}
	}
}

func readLines(r io.Reader) ([]Record, error) {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, maxLine)
	var records []Record
	line := 0
	for scanner.Scan() {
		line++
		text := bytes.TrimSpace(scanner.Bytes())
		if len(text) == 0 {
			continue
		}
		var l recordLine
		if err := json.Unmarshal(text, &l); err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		var err error
		if records, err = l.appendTo(records); err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", line+1, err)
	}
	return records, nil
}

func readCSV(r io.Reader) ([]Record, error) {
	reader := csv.NewReader(r)
	reader.ReuseRecord = true
	header, err := reader.Read()
	if err != nil {
		return nil, err
	}
	columns := map[string]int{}
	for i, name := range header {
		columns[strings.TrimSpace(name)] = i
	}
	if _, ok := columns["start_seconds"]; !ok {
		return nil, errors.New("line 1: there is no column start_seconds")
	}
	var records []Record
	for {
		row, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return records, nil
		} else if err != nil {
			return nil, err
		}
		line, _ := reader.FieldPos(0)
		l, err := parseRow(columns, row)
		if err == nil {
			records, err = l.appendTo(records)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
	}
}

func parseRow(columns map[string]int, row []string) (recordLine, error) {
	var l recordLine
	var failed error
	number := func(name string) float64 {
		i, ok := columns[name]
		if !ok || row[i] == "" {
			return 0
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(row[i]), 64)
		if err != nil && failed == nil {
			failed = fmt.Errorf("%s: %q is not a number", name, row[i])
		}
		return v
	}
	text := func(name string) string {
		if i, ok := columns[name]; ok {
			return strings.Clone(row[i])
		}
		return ""
	}
	if text("start_seconds") != "" {
		start := number("start_seconds")
		l.Start = &start
	}
	l.Latency, l.Wait = number("latency_seconds"), number("wait_seconds")
	l.Concurrency, l.Repetition = int(number("concurrency")), int(number("repetition"))
	l.Instance, l.Strategy = text("instance"), text("strategy")
	if text("status") != "" {
		status := int(number("status"))
		l.Status = &status
	}
	return l, failed
}

func (l recordLine) appendTo(records []Record) ([]Record, error) {
	switch {
	case l.Timing != nil:
		l.Start, l.Latency, l.Instance = &l.Timing.Start, l.Timing.Latency, l.Timing.Instance
	case !l.Captured.InferenceTime.IsZero():
		at := float64(l.Captured.InferenceTime.Unix())
		l.Start = &at
	case l.Start == nil:
		l.Start = l.At
	}
	switch {
	case l.Start == nil:
		return nil, errors.New("start_seconds is missing")
	case math.IsNaN(*l.Start) || math.IsInf(*l.Start, 0):
		return nil, errors.New("start_seconds is not a finite number")
	case !(l.Latency >= 0 && l.Latency <= maxQuantity): // also catches NaN
		return nil, fmt.Errorf("latency_seconds %v is not within 0 to %g", l.Latency, float64(maxQuantity))
	case !(l.Wait >= 0 && l.Wait <= l.Latency):
		return nil, fmt.Errorf("wait_seconds %v is not within 0 and the latency", l.Wait)
	case l.Concurrency < 0:
		return nil, fmt.Errorf("concurrency %d is negative", l.Concurrency)
	case l.Status != nil && (*l.Status < 200 || *l.Status > 299):
		return records, nil
	}
	r := Record{
		Start: *l.Start + l.Wait, Latency: l.Latency - l.Wait,
		Concurrency: l.Concurrency, Run: fmt.Sprintf("%s/%d", l.Strategy, l.Repetition), Strategy: l.Strategy,
	}
	if l.Instance != "" {
		r.Instance = r.Run + "/" + l.Instance
	}
	return append(records, r), nil
}

// read loads the trace, if the load has one.
func (l *Load) read() error {
	if l.Trace == "" || l.arrivals != nil {
		return nil
	}
	records, err := ReadRecordsFile(l.Trace)
	if err != nil {
		return fmt.Errorf("trace: %w", err)
	}
	l.arrivals = make([]arrival, len(records))
	for i, r := range records {
		l.arrivals[i] = arrival{at: r.Start - records[0].Start, instance: -1}
	}
	return nil
}
