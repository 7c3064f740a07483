// Command gen writes the constraint table that sdkcompat embeds. It takes names
// and numbers, and never documentation, from two of botocore's service models
// and adds what overlay.json holds.
//
//	go run ./sdkcompat/gen -model sagemaker/2017-07-24/service-2.json.gz \
//		-runtime-model sagemaker-runtime/2017-05-13/service-2.json.gz \
//		-out sdkcompat/constraints.json
package main

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

// hostingOperations are what the control plane serves.
var hostingOperations = []string{
	"AddTags", "DeleteTags", "ListTags",
	"CreateModel", "DeleteModel", "DescribeModel", "ListModels",
	"CreateEndpointConfig", "DeleteEndpointConfig", "DescribeEndpointConfig", "ListEndpointConfigs",
	"CreateEndpoint", "DeleteEndpoint", "DescribeEndpoint", "ListEndpoints",
	"UpdateEndpoint", "UpdateEndpointWeightsAndCapacities",
	"CreateInferenceComponent", "DeleteInferenceComponent", "DescribeInferenceComponent", "ListInferenceComponents",
	"UpdateInferenceComponent", "UpdateInferenceComponentRuntimeConfig",
}

var runtimeOperations = []string{"InvokeEndpoint", "InvokeEndpointAsync", "InvokeEndpointWithResponseStream"}

//go:embed overlay.json
var overlayJSON []byte

func main() {
	model := flag.String("model", "", "botocore's sagemaker service-2.json, may be .gz")
	runtimeModel := flag.String("runtime-model", "", "botocore's sagemaker-runtime service-2.json, may be .gz")
	out := flag.String("out", "", "the table to write")
	flag.Parse()
	if err := run(*model, *runtimeModel, *out); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(modelPath, runtimeModelPath, out string) error {
	control, err := serviceTable(modelPath, hostingOperations)
	if err != nil {
		return err
	}
	runtime, err := serviceTable(runtimeModelPath, runtimeOperations)
	if err != nil {
		return err
	}
	overlay, err := decodeObject(bytes.NewReader(overlayJSON))
	if err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	table := object{"control": control, "runtime": runtime}
	merge(table, overlay)
	if err := check(table); err != nil {
		return err
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(table); err != nil {
		return fmt.Errorf("encode table: %w", err)
	}
	return os.WriteFile(out, text.Bytes(), 0o644)
}

// serviceTable reads one service model and keeps what the operations' inputs
// reach.
func serviceTable(path string, operations []string) (object, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var r io.Reader = file
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(file); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	model, err := decodeObject(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	table, err := extract(model, operations)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return table, nil
}

func decodeObject(r io.Reader) (object, error) {
	dec := json.NewDecoder(r)
	dec.UseNumber() // 0.25 and 6291456 must come out as they went in
	var o object
	err := dec.Decode(&o)
	return o, err
}
