package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// model is multinomial logistic regression, as ../iris/train.py writes it.
type model struct {
	Features     []string    `json:"features"`
	Labels       []string    `json:"labels"`
	Coefficients [][]float64 `json:"coefficients"`
	Intercepts   []float64   `json:"intercepts"`
}

type prediction struct {
	Label         string             `json:"label"`
	Probabilities map[string]float64 `json:"probabilities"`
}

func readModel(directory string) (*model, error) {
	text, err := os.ReadFile(filepath.Join(directory, "model.json"))
	if err != nil {
		return nil, err
	}
	m := new(model)
	if err := json.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("model.json: %w", err)
	}
	match := len(m.Labels) > 0 && len(m.Coefficients) == len(m.Labels) && len(m.Intercepts) == len(m.Labels)
	for _, c := range m.Coefficients {
		match = match && len(c) == len(m.Features)
	}
	if !match {
		return nil, errors.New("model.json: labels, features and coefficients do not match")
	}
	return m, nil
}

func (m *model) predict(instance []float64) prediction {
	scores := make([]float64, len(m.Labels))
	best := 0
	for k, coefficients := range m.Coefficients {
		scores[k] = m.Intercepts[k]
		for j, coefficient := range coefficients {
			scores[k] += coefficient * instance[j]
		}
		if scores[k] > scores[best] {
			best = k
		}
	}
	total := 0.0
	exps := make([]float64, len(scores))
	for k, score := range scores {
		exps[k] = math.Exp(score - scores[best])
		total += exps[k]
	}
	p := prediction{m.Labels[best], make(map[string]float64, len(exps))}
	for k, e := range exps {
		p.Probabilities[m.Labels[k]] = e / total
	}
	return p
}

func (m *model) check(instances [][]float64) error {
	if len(instances) == 0 {
		return refuse(http.StatusBadRequest, "the body holds no instances")
	}
	for i, instance := range instances {
		if len(instance) != len(m.Features) {
			return refuse(http.StatusBadRequest, "instance %d has %d values, not %d", i+1, len(instance), len(m.Features))
		}
		for _, v := range instance {
			// Beyond 1e300 a product with a coefficient could overflow.
			if math.Abs(v) > 1e300 {
				return refuse(http.StatusBadRequest, "instance %d has a value beyond 1e300", i+1)
			}
		}
	}
	return nil
}

// readers read a body by its media type.
var readers = map[string]func(body []byte) ([][]float64, error){
	"text/csv":         readCSV,
	"application/json": readJSON,
}

// number leaves out what strconv reads beside decimal numbers.
var number = regexp.MustCompile(`^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$`)

func readCSV(body []byte) ([][]float64, error) {
	if !utf8.Valid(body) {
		return nil, refuse(http.StatusBadRequest, "the body is not UTF-8")
	}
	lines := strings.Split(strings.TrimRight(string(body), " \t\r\n"), "\n")
	if lines[0] == "" && len(lines) == 1 {
		return nil, nil
	}
	instances := make([][]float64, len(lines))
	for i, line := range lines {
		for cell := range strings.SplitSeq(strings.Trim(line, " \t\r"), ",") {
			cell = strings.Trim(cell, " \t")
			if !number.MatchString(cell) {
				return nil, refuse(http.StatusBadRequest, "line %d is not a list of numbers", i+1)
			}
			v, _ := strconv.ParseFloat(cell, 64) // out of range is infinite, and refused with what is too large
			instances[i] = append(instances[i], v)
		}
	}
	return instances, nil
}

// readJSON decodes into untyped values: into [][]float64, null would become 0.
func readJSON(body []byte) ([][]float64, error) {
	if !utf8.Valid(body) {
		return nil, refuse(http.StatusBadRequest, "the body is not UTF-8")
	}
	var document any
	if err := json.Unmarshal(body, &document); err != nil {
		return nil, refuse(http.StatusBadRequest, "the body is not JSON")
	}
	object, _ := document.(map[string]any)
	list, ok := object["instances"].([]any)
	if !ok {
		return nil, refuse(http.StatusBadRequest, `the body is not of the form {"instances": [[...], ...]}`)
	}
	instances := make([][]float64, len(list))
	for i, item := range list {
		values, ok := item.([]any)
		for _, v := range values {
			var f float64
			if f, ok = v.(float64); !ok {
				break
			}
			instances[i] = append(instances[i], f)
		}
		if !ok {
			return nil, refuse(http.StatusBadRequest, "instance %d is not a list of numbers", i+1)
		}
	}
	return instances, nil
}
