package process

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sagelocal/sagelocal/dataplane/launchertest"
)

func TestTailKeepsTheLastLines(t *testing.T) {
	out := launchertest.NewOutput()
	c := &tail{next: out}
	for i := range 5000 {
		if n, err := c.Write([]byte(strconv.Itoa(i) + "\n")); err != nil || n == 0 {
			t.Fatal(n, err)
		}
	}
	want := []string{"4990", "4991", "4992", "4993", "4994", "4995", "4996", "4997", "4998", "4999"}
	if got := strings.Split(c.String(), "\n"); !slices.Equal(got, want) {
		t.Errorf("tail %v, want %v", got, want)
	}
	if !strings.HasPrefix(out.String(), "0\n1\n") {
		t.Error("the first lines were not passed on")
	}
}
