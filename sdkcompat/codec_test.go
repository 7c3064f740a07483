package sdkcompat

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
)

type workerNote struct {
	Address  string
	Attempts uint16
	Next     *workerNote
}

type endpointRecord struct {
	sagemaker.DescribeEndpointOutput
	*Retries
	Generation int64
	Paused     bool
	Settled    time.Time
	Workers    map[string]workerNote
	Names      map[types.EndpointStatus]string
	History    []workerNote
	Renamed    string `json:"PrivateName"`
	Scratch    int    `json:"-"`
	Document   any
	Digest     []byte
	hidden     int //nolint:unused // the codec must leave it alone
}

type Retries struct{ Count int }

func TestRecordKeepsSDKOutputAndPrivateFields(t *testing.T) {
	record := endpointRecord{
		DescribeEndpointOutput: sagemaker.DescribeEndpointOutput{
			EndpointName:   aws.String("a"),
			EndpointStatus: types.EndpointStatusInService,
			CreationTime:   aws.Time(time.UnixMilli(1529870369986).UTC()),
			ProductionVariants: []types.ProductionVariantSummary{
				{VariantName: aws.String("v"), CurrentWeight: aws.Float32(0.1), CurrentInstanceCount: aws.Int32(0)},
			},
			ShadowProductionVariants: []types.ProductionVariantSummary{},
		},
		Retries:    &Retries{Count: 3},
		Generation: math.MaxInt64,
		Paused:     true,
		Settled:    time.UnixMilli(1700000000500).UTC(),
		Workers:    map[string]workerNote{"b": {Address: "127.0.0.1"}, "a": {Attempts: 2, Next: &workerNote{Address: "x"}}},
		Names:      map[types.EndpointStatus]string{types.EndpointStatusFailed: ""},
		History:    []workerNote{{}},
		Renamed:    "r",
		Document:   Object{{"k", []any{nil, true, json.Number("1.50")}}},
		Digest:     []byte{0xff, 0},
	}
	data, err := Marshal(&record)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"Count":3,"CreationTime":1529870369.986,"Digest":"/wA=","Document":{"k":[null,true,1.50]},` +
		`"EndpointName":"a","EndpointStatus":"InService","Generation":9223372036854775807,"History":[{}],` +
		`"Names":{"Failed":""},"Paused":true,"PrivateName":"r",` +
		`"ProductionVariants":[{"CurrentInstanceCount":0,"CurrentWeight":0.1,"VariantName":"v"}],` +
		`"Settled":1700000000.5,"ShadowProductionVariants":[],` +
		`"Workers":{"a":{"Attempts":2,"Next":{"Address":"x"}},"b":{"Address":"127.0.0.1"}}}`
	if string(data) != want {
		t.Fatalf("got  %s\nwant %s", data, want)
	}
	var back endpointRecord
	if err := Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back, record) {
		t.Errorf("got %+v\nwant %+v", back, record)
	}
}

func TestNullsAndUnknownMembersAreIgnored(t *testing.T) {
	in := sagemaker.CreateEndpointConfigInput{KmsKeyId: aws.String("kept")}
	err := Unmarshal([]byte(`{"EndpointConfigName":"old","EndpointConfigName":"new","KmsKeyId":null,"Zebra":{"a":[1]},
		"ProductionVariants":[null,{"VariantName":"v","RoutingConfig":null}],"Tags":[]}`), &in)
	if err != nil {
		t.Fatal(err)
	}
	want := sagemaker.CreateEndpointConfigInput{
		KmsKeyId:           aws.String("kept"),
		EndpointConfigName: aws.String("new"),
		ProductionVariants: []types.ProductionVariant{{VariantName: aws.String("v")}},
		Tags:               []types.Tag{},
	}
	if !reflect.DeepEqual(in, want) {
		t.Errorf("got %+v", in)
	}
}

func TestWrongKindGivesAWSText(t *testing.T) {
	for _, test := range []struct{ body, message string }{
		{`{"EndpointConfigName":1}`, "NUMBER_VALUE can not be converted to a String"},
		{`{"EndpointConfigName":true}`, "TRUE_VALUE can not be converted to a String"},
		{`{"EndpointConfigName":["x"]}`, "Start of list found where not expected"},
		{`{"EndpointConfigName":{}}`, "Start of structure or map found where not expected."},
		{`{"EnableNetworkIsolation":"yes"}`, "STRING_VALUE can not be converted to an Boolean"},
		{`{"ProductionVariants":"x"}`, "Expected list or null"},
		{`{"ProductionVariants":{}}`, "Start of structure or map found where not expected."},
		{`{"ProductionVariants":[[]]}`, "Start of list found where not expected"},
		{`{"ProductionVariants":[1]}`, "Expected null"},
		{`{"ProductionVariants":[{"InitialInstanceCount":"1"}]}`, "STRING_VALUE can not be converted to an Integer"},
		{`{"ProductionVariants":[{"InitialInstanceCount":false}]}`, "FALSE_VALUE can not be converted to an Integer"},
		{`{"ProductionVariants":[{"InitialInstanceCount":2147483648}]}`, "NUMBER_VALUE can not be converted to an Integer"},
		{`{"ProductionVariants":[{"InitialInstanceCount":1e999}]}`, "NUMBER_VALUE can not be converted to an Integer"},
		{`{"ProductionVariants":[{"InitialVariantWeight":"1"}]}`, "STRING_VALUE can not be converted to a Float"},
		{`{"ProductionVariants":[{"InitialVariantWeight":1e99}]}`, "NUMBER_VALUE can not be converted to a Float"},
		{`[]`, "Start of list found where not expected"},
		{`"x"`, "Expected null"},
	} {
		err := Unmarshal([]byte(test.body), &sagemaker.CreateEndpointConfigInput{})
		assertError(t, err, "SerializationException", test.message)
	}
}

func assertError(t *testing.T, err error, code, message string) {
	t.Helper()
	var wire *Error
	if !errors.As(err, &wire) {
		t.Fatalf("got %v, want %s: %s", err, code, message)
	}
	if wire.Code != code || wire.Message != message || wire.Status != 400 {
		t.Errorf("got  %d %v\nwant 400 %s: %s", wire.Status, err, code, message)
	}
}

func TestFractionOfAnIntegerIsCutOff(t *testing.T) {
	for text, want := range map[string]int32{"1.5": 1, "-1.5": -1, "1e2": 100, "2.0": 2, "2147483647": math.MaxInt32} {
		var v struct{ N *int32 }
		if err := Unmarshal([]byte(`{"N":`+text+`}`), &v); err != nil {
			t.Fatal(err)
		}
		if *v.N != want {
			t.Errorf("%s: got %d", text, *v.N)
		}
	}
}

func TestTimestampForms(t *testing.T) {
	for text, want := range map[string]string{
		"946684800":                       "946684800",
		"1529870369.986":                  "1529870369.986",
		"1529870369.9":                    "1529870369.9",
		"1529870369.9864":                 "1529870369.986",
		"1.5e9":                           "1500000000",
		"-1.5":                            "-1.5",
		`"2018-06-24T19:59:29.986Z"`:      "1529870369.986",
		`"2018-06-24T21:59:29.986+02:00"`: "1529870369.986",
	} {
		var v struct{ T *time.Time }
		if err := Unmarshal([]byte(`{"T":`+text+`}`), &v); err != nil {
			t.Fatal(err)
		}
		got, err := Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != `{"T":`+want+`}` {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
	for _, text := range []string{`"yesterday"`, "1e300", "true", "[]"} {
		var v struct{ T *time.Time }
		if err := Unmarshal([]byte(`{"T":`+text+`}`), &v); err == nil {
			t.Errorf("%s: taken as %v", text, v.T)
		}
	}
}

func TestFloatsTravelInTheirOwnWidth(t *testing.T) {
	type floats struct {
		F *float32
		D *float64
	}
	for _, text := range []string{
		`{"D":0.1,"F":0.1}`, `{"D":1e+21,"F":1e-07}`, `{"D":"NaN","F":"-Infinity"}`, `{"D":"Infinity","F":16777216}`,
	} {
		var v floats
		if err := Unmarshal([]byte(text), &v); err != nil {
			t.Fatal(err)
		}
		if got, err := Marshal(v); err != nil || string(got) != text {
			t.Errorf("got %s, %v, want %s", got, err, text)
		}
	}
}

func TestTypeWithoutWireFormIsAnErrorNotAPanic(t *testing.T) {
	type twice struct {
		A string `json:"B"`
		B string
	}
	type unexported struct{ N int }
	for _, v := range []any{
		make(chan int), struct{ F func() }{}, map[int]string{}, twice{}, struct{ E error }{}, struct{ *unexported }{},
	} {
		if data, err := Marshal(v); err == nil {
			t.Errorf("%T: got %s", v, data)
		}
	}
	if err := Unmarshal([]byte(`{}`), struct{}{}); err == nil {
		t.Error("decoding into a value must fail")
	}
	if _, err := Marshal(struct{ X any }{X: 1}); err == nil {
		t.Error("an int in a tree must fail")
	}
}

func TestMalformedJSONHasNoMessage(t *testing.T) {
	for _, text := range []string{
		"", " ", "{", "}", `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{a:1}`, `{"a" 1}`, `{,}`, "[", "[1", "[1,", "[1,]", "[,]", "[1 2]",
		`"`, `"\`, `"\u12"`, `"\ud800\u1"`, `"\x"`, "\"\n\"", "\"\\n\n\"", "\"\xff\"", "01", "-", "1.", ".5", "1e", "1e+", "+1", "nul", "True",
		`{} {}`, "{}x", "\xef\xbb\xbf{}", "\x00", "1\x00",
	} {
		tree, err := ParseJSON([]byte(text))
		if err == nil {
			t.Errorf("%q: taken as %v", text, tree)
			continue
		}
		assertError(t, err, "SerializationException", "")
	}
}

func TestHostileSizesAreRefused(t *testing.T) {
	_, err := ParseJSON([]byte(strings.Repeat("[", MaxJSONBytes)))
	assertError(t, err, "SerializationException", "The document is nested more than 100 levels deep")
	_, err = ParseJSON([]byte(strings.Repeat(`{"a":`, 200)))
	assertError(t, err, "SerializationException", "The document is nested more than 100 levels deep")
	_, err = ParseJSON(make([]byte, MaxJSONBytes+1))
	assertError(t, err, "SerializationException", "The document is longer than 4194304 bytes")
}

func TestJSONTextIsCanonical(t *testing.T) {
	for in, want := range map[string]string{
		` { "b" : [ ] , "a" : { } , "b" : 1 } `:       `{"a":{},"b":1}`,
		`"\u00e4\/\ud83d\ude00\ud800x\b\f\n\r\t\"\\"`: `"ä/😀` + "\uFFFD" + `x\u0008\u000c\n\r\t\"\\"`,
		`[1.0,-0,1E5,true,false,null]`:                `[1.0,-0,1E5,true,false,null]`,
		`"<&>\u2028"`:                                 "\"<&>\u2028\"",
	} {
		tree, err := ParseJSON([]byte(in))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := AppendJSON(nil, tree); err != nil || string(got) != want {
			t.Errorf("got  %s, %v\nwant %s", got, err, want)
		}
	}
	if got, _ := AppendJSON(nil, "a\xffb"); string(got) != "\"a\uFFFDb\"" {
		t.Errorf("got %s", got)
	}
}

func TestObjectStaysSorted(t *testing.T) {
	var o Object
	for _, name := range []string{"c", "a", "b", "a"} {
		o.Set(name, name+name)
	}
	want := Object{{"a", "aa"}, {"b", "bb"}, {"c", "cc"}}
	if !reflect.DeepEqual(o, want) {
		t.Errorf("got %v", o)
	}
	if v, ok := o.Get("b"); !ok || v != "bb" {
		t.Errorf("got %v %v", v, ok)
	}
	if _, ok := o.Get("d"); ok {
		t.Error("found what is not there")
	}
}

func FuzzParseJSON(f *testing.F) {
	for _, seed := range []string{`{"a":[1,-2.5e3,"x\u0041\ud83d\ude00",null,true],"a":{}}`, `"\ud800"`, "[[[[", "\xff"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		tree, err := ParseJSON(data)
		if (err == nil) != json.Valid(data) && len(data) < 100 && strings.ToValidUTF8(string(data), "") == string(data) {
			t.Fatalf("ParseJSON gives %v where encoding/json finds valid = %v", err, err != nil)
		}
		if err != nil {
			return
		}
		once, err := AppendJSON(nil, tree)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseJSON(once)
		if err != nil {
			t.Fatalf("%v in own output %s", err, once)
		}
		if !reflect.DeepEqual(tree, again) {
			t.Fatalf("%s came back as %v", once, again)
		}
	})
}

func FuzzUnmarshalCreateEndpointConfig(f *testing.F) {
	f.Add([]byte(`{"ProductionVariants":[{"InitialVariantWeight":"NaN","InitialInstanceCount":1.5}],"Tags":[{}]}`))
	f.Add([]byte(`{"DataCaptureConfig":{"EnableCapture":true,"CaptureOptions":[null]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var in, back sagemaker.CreateEndpointConfigInput
		err := Unmarshal(data, &in)
		if err != nil {
			var wire *Error
			if !errors.As(err, &wire) {
				t.Fatalf("%v is no wire error", err)
			}
			return
		}
		out, err := Marshal(&in)
		if err != nil {
			t.Fatal(err)
		}
		if err := Unmarshal(out, &back); err != nil {
			t.Fatalf("%v in own output %s", err, out)
		}
		if again, _ := Marshal(&back); string(again) != string(out) {
			t.Fatalf("%s came back as %s", out, again)
		}
	})
}
