package daemon

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestCertificateIsMadeOnceAndKept(t *testing.T) {
	dir := t.TempDir()
	first := &certificates{dir: dir, hosts: []string{"sagelocal.test"}}
	if err := first.check(); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("made before it was asked for: %v", left)
	}
	authority, err := first.authority()
	if err != nil {
		t.Fatal(err)
	}
	pair, err := first.get()
	if err != nil {
		t.Fatal(err)
	}
	trust := x509.NewCertPool()
	trust.AppendCertsFromPEM(authority)
	for _, host := range []string{"localhost", "e.localhost", "127.0.0.1", "::1", "sagelocal.test"} {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: trust, DNSName: host}); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: trust, DNSName: "example.com"}); err == nil {
		t.Error("it is for example.com too")
	}
	info, err := os.Stat(filepath.Join(dir, certificateFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	again, err := (&certificates{dir: dir}).authority()
	if err != nil || !bytes.Equal(again, authority) {
		t.Errorf("it was made anew, %v", err)
	}
	// One that is not for a name which the operator allows is of no use.
	other, err := (&certificates{dir: dir, hosts: []string{"other.test"}}).authority()
	if err != nil || bytes.Equal(other, authority) {
		t.Errorf("it was kept, %v", err)
	}
}

func TestCertificateThatIsOverOrNoneIsMadeAnew(t *testing.T) {
	over, err := makeCertificate(nil, time.Now().Add(-certificateLife-time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	for _, kept := range [][]byte{over, []byte("no certificate")} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, certificateFile), kept, 0o600); err != nil {
			t.Fatal(err)
		}
		pair, err := (&certificates{dir: dir}).get()
		if err != nil || time.Now().After(pair.Leaf.NotAfter) {
			t.Errorf("%v", err)
		}
	}
	if _, err := (&certificates{dir: filepath.Join(t.TempDir(), "gone")}).get(); err == nil {
		t.Error("no error where nothing can be kept")
	}
}

func TestOperatorsCertificate(t *testing.T) {
	text, err := makeCertificate(nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "both.pem")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	c := &certificates{certificate: path, key: path}
	if err := c.check(); err != nil {
		t.Fatal(err)
	}
	authority, err := c.authority()
	if block, rest := pem.Decode(authority); err != nil || block == nil || len(rest) > 0 || !bytes.HasSuffix(text, authority) {
		t.Errorf("%s, %v", authority, err)
	}
	for want, c := range map[string]*certificates{
		"go together":  {certificate: path},
		"go together ": {key: path},
		"no such file": {certificate: path + "x", key: path},
		"PEM":          {certificate: "certificate_test.go", key: "certificate_test.go"},
	} {
		if err := c.check(); err == nil || !strings.Contains(err.Error(), strings.TrimSpace(want)) {
			t.Errorf("%+v: %v, want %q", c, err, want)
		}
	}
}
