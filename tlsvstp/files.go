package tlsvstp

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// The names that WriteFiles uses.
const (
	CAFile   = "ca.pem"
	CertFile = "cert.pem"
	KeyFile  = "key.pem"
)

const (
	pemCertificate = "CERTIFICATE"
	pemPrivateKey  = "PRIVATE KEY"
)

// maxPoolFile bounds what LoadPool reads; the certificates of a whole system
// take about 200 KiB.
const maxPoolFile = 8 << 20

// WriteFiles writes the authority, the certificate and its key into dir as
// CAFile, CertFile and KeyFile, making dir if need be. The key can be read by its
// owner only. Without overwrite, nothing is written if one of the files exists,
// and the error wraps [fs.ErrExist].
func (d *DevCert) WriteFiles(dir string, overwrite bool) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("tlsvstp: %w", err)
	}
	files := []struct {
		name string
		data []byte
		perm fs.FileMode
	}{{KeyFile, d.KeyPEM, 0o600}, {CertFile, d.CertPEM, 0o644}, {CAFile, d.CAPEM, 0o644}}
	if !overwrite {
		for _, f := range files {
			path := filepath.Join(dir, f.name)
			if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
				if err == nil {
					err = &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
				}
				return fmt.Errorf("tlsvstp: %w", err)
			}
		}
	}
	for _, f := range files {
		if err := writeFile(filepath.Join(dir, f.name), f.data, f.perm, overwrite); err != nil {
			return fmt.Errorf("tlsvstp: %w", err)
		}
	}
	return nil
}

// writeFile makes path with perm from its first moment on. An existing file is
// replaced, not written into: its permissions may be wider, or it may be a link.
func writeFile(path string, data []byte, perm fs.FileMode, overwrite bool) error {
	if overwrite {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		os.Remove(path)
	}
	return err
}

// LoadPool reads the certificates of a PEM file, for RootCAs or ClientCAs. Unlike
// x509.CertPool.AppendCertsFromPEM it does not pass over what it cannot parse, and
// says so if a file with other content was given, a private key perhaps.
func LoadPool(path string) (*x509.CertPool, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("tlsvstp: %w", err)
	}
	defer f.Close()
	rest, err := io.ReadAll(io.LimitReader(f, maxPoolFile+1))
	if err != nil {
		return nil, fmt.Errorf("tlsvstp: %w", err)
	}
	if len(rest) > maxPoolFile {
		return nil, fmt.Errorf("tlsvstp: %s: too large for a file of certificates", path)
	}
	pool, n, other := x509.NewCertPool(), 0, ""
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != pemCertificate {
			other = block.Type
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("tlsvstp: %s: certificate %d: %w", path, n+1, err)
		}
		pool.AddCert(cert)
		n++
	}
	switch {
	case n > 0:
		return pool, nil
	case other != "":
		return nil, fmt.Errorf("tlsvstp: %s: no certificate in it, but a %q", path, other)
	}
	return nil, fmt.Errorf("tlsvstp: %s: no PEM certificate in it", path)
}
