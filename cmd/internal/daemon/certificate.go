package daemon

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	certificateFile = "http2.pem" // in the data directory: key, certificate, authority
	// certificateLife is below the 825 days that clients take.
	certificateLife = 800 * 24 * time.Hour
)

// certificates gives the certificate of the HTTP/2 port: the operator's, or one
// that is made when a client first asks and kept in the data directory. What it is
// signed by has signed nothing else and never will: that key is not kept.
type certificates struct {
	dir              string
	hosts            []string // names that it is for, beside those of loopback
	certificate, key string   // the operator's files

	mu    sync.Mutex
	ready *tls.Certificate
	trust []byte
}

// check reads the operator's files at the start, so that a mistake is told then.
func (c *certificates) check() error {
	switch {
	case c.certificate == "" && c.key == "":
		return nil
	case c.certificate == "" || c.key == "":
		return errors.New("--http2-certificate and --http2-key go together")
	}
	_, err := c.get()
	return err
}

// get is the certificate.
func (c *certificates) get() (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.load()
	return c.ready, err
}

// authority is what a client has to trust, in PEM.
func (c *certificates) authority() ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.load()
	return c.trust, err
}

func (c *certificates) load() error {
	if c.ready != nil && (c.certificate != "" || time.Now().Before(c.ready.Leaf.NotAfter)) {
		return nil
	}
	if c.certificate != "" {
		return c.read(c.certificate, c.key)
	}
	path := filepath.Join(c.dir, certificateFile)
	if err := c.read(path, path); err == nil && c.fits() {
		return nil
	}
	text, err := makeCertificate(c.hosts, time.Now())
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	return c.read(path, path)
}

// fits tells that a kept certificate still holds, for all names.
func (c *certificates) fits() bool {
	for _, host := range c.hosts {
		if c.ready.Leaf.VerifyHostname(host) != nil {
			return false
		}
	}
	return time.Now().Before(c.ready.Leaf.NotAfter)
}

func (c *certificates) read(certificate, key string) error {
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	c.ready = &pair
	// The last of the chain vouches for the others; alone it vouches for itself.
	c.trust = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[len(pair.Certificate)-1]})
	return nil
}

// makeCertificate makes an authority and a certificate signed by it for loopback
// and the hosts, as PEM: the certificate's key, the certificate, the authority.
func makeCertificate(hosts []string, now time.Time) ([]byte, error) {
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	authority := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "sagelocal authority"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certificateLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "sagelocal"},
		NotBefore: authority.NotBefore, NotAfter: authority.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    append([]string{"localhost", "*.localhost"}, hosts...),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	authorityDER, err := x509.CreateCertificate(rand.Reader, authority, authority, &authorityKey.PublicKey, authorityKey)
	if err != nil {
		return nil, err
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, authority, &key.PublicKey, authorityKey)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	var text []byte
	for _, block := range []pem.Block{{Type: "PRIVATE KEY", Bytes: keyDER}, {Type: "CERTIFICATE", Bytes: leafDER}, {Type: "CERTIFICATE", Bytes: authorityDER}} {
		text = append(text, pem.EncodeToMemory(&block)...)
	}
	return text, nil
}

// serial is a certificate's number: positive and of 159 bits at most (RFC 5280).
func serial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never fails
	return new(big.Int).SetBytes(b[:])
}
