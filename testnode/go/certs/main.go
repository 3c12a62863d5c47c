// Certs makes the node's certificates: an authority that lives as long as the
// node does, and one pair of key and certificate for each line of the list that
// comes as JSON on standard input. Everything is written to the folder that is
// the only argument, keys readable by the owner alone.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// request is one certificate that the node needs.
type request struct {
	File   string   `json:"file"`   // NAME in NAME.crt and NAME.key
	User   string   `json:"user"`   // the common name: Kubernetes reads it as the user
	Groups []string `json:"groups"` // the organisations: Kubernetes reads them as groups
	Names  []string `json:"names"`  // DNS names that a server answers to
	IPs    []net.IP `json:"ips"`    // addresses that a server answers to
}

type pair struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "certs:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 2 {
		return fmt.Errorf("want one argument, the folder to write to; got %d", len(os.Args)-1)
	}
	folder := os.Args[1]
	var requests []request
	if err := json.NewDecoder(os.Stdin).Decode(&requests); err != nil {
		return fmt.Errorf("the list of certificates on standard input: %w", err)
	}
	root := template(request{User: "gateway-queue-node"})
	root.IsCA, root.BasicConstraintsValid = true, true
	root.KeyUsage |= x509.KeyUsageCertSign
	authority, err := issue(folder, "ca", root, nil)
	if err != nil {
		return err
	}
	for _, wanted := range requests {
		if _, err := issue(folder, wanted.File, templateOf(wanted), authority); err != nil {
			return err
		}
	}
	return nil
}

func templateOf(wanted request) *x509.Certificate {
	made := template(wanted)
	made.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if len(wanted.Names)+len(wanted.IPs) > 0 {
		made.ExtKeyUsage = append(made.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	return made
}

func template(wanted request) *x509.Certificate {
	return &x509.Certificate{
		Subject:     pkix.Name{CommonName: wanted.User, Organization: wanted.Groups},
		DNSNames:    wanted.Names,
		IPAddresses: wanted.IPs,
		NotBefore:   time.Now().Add(-time.Hour),
		NotAfter:    time.Now().AddDate(1, 0, 0),
		KeyUsage:    x509.KeyUsageDigitalSignature,
	}
}

// issue writes NAME.crt and NAME.key, signed by the authority, or by itself
// when there is none yet.
func issue(folder, name string, template *x509.Certificate, authority *pair) (*pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	if authority == nil {
		authority = &pair{template, key}
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, authority.certificate, key.Public(), authority.key)
	if err != nil {
		return nil, fmt.Errorf("the certificate %s: %w", name, err)
	}
	certificate, err := x509.ParseCertificate(signed)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	if err := write(filepath.Join(folder, name+".crt"), "CERTIFICATE", signed); err != nil {
		return nil, err
	}
	return &pair{certificate, key}, write(filepath.Join(folder, name+".key"), "EC PRIVATE KEY", private)
}

func write(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
