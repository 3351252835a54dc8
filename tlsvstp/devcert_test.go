package tlsvstp

import (
	"crypto/tls"
	"crypto/x509"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSelfSignedContents(t *testing.T) {
	start := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	d := devCert(t, DevOptions{
		Hosts:     []string{"example.org", "*.example.org", "10.0.0.1", "[2001:db8::1]", "under_score.local."},
		NotBefore: start, ValidFor: time.Hour,
	})
	leaf := d.Certificate.Leaf
	require.Equal(t, []string{"example.org", "*.example.org", "under_score.local"}, leaf.DNSNames)
	require.Len(t, leaf.IPAddresses, 2)
	require.Equal(t, start, leaf.NotBefore)
	require.Equal(t, start.Add(time.Hour), leaf.NotAfter)
	require.False(t, leaf.IsCA)
	for _, host := range []string{"example.org", "a.example.org", "10.0.0.1", "2001:db8::1"} {
		for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
			_, err := leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: d.Pool,
				KeyUsages: []x509.ExtKeyUsage{usage}, CurrentTime: start.Add(time.Minute)})
			require.NoError(t, err, host)
		}
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: d.Pool, CurrentTime: start.Add(2 * time.Hour)})
	require.Error(t, err)
}

func TestSelfSignedBadOptions(t *testing.T) {
	for _, host := range []string{"", ".", "a b", "a..b", "-a", "a-", "http://a", "a:1", "*", "a.*.b", "ü.de",
		strings.Repeat("a", 64), strings.Repeat("a.", 127) + "a"} {
		_, err := SelfSigned(DevOptions{Hosts: []string{host}})
		require.Error(t, err, host)
	}
	_, err := SelfSigned(DevOptions{ValidFor: -1})
	require.Error(t, err)
	_, err = (&DevCert{}).Issue(DevOptions{})
	require.Error(t, err)
}

func TestWriteFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	d := devCert(t, DevOptions{})
	require.NoError(t, d.WriteFiles(dir, false))
	if runtime.GOOS != "windows" {
		info, err := os.Stat(filepath.Join(dir, KeyFile))
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	}
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, CertFile), filepath.Join(dir, KeyFile))
	require.NoError(t, err)
	require.Equal(t, d.Certificate.Certificate, cert.Certificate)
	pool, err := LoadPool(filepath.Join(dir, CAFile))
	require.NoError(t, err)
	require.True(t, pool.Equal(d.Pool))

	// Nothing is touched without overwrite, also if only one file is there.
	require.NoError(t, os.Remove(filepath.Join(dir, KeyFile)))
	require.ErrorIs(t, devCert(t, DevOptions{}).WriteFiles(dir, false), fs.ErrExist)
	require.NoFileExists(t, filepath.Join(dir, KeyFile))

	// A key never lands in a file that others may read.
	require.NoError(t, os.WriteFile(filepath.Join(dir, KeyFile), nil, 0o644))
	d2 := devCert(t, DevOptions{Ed25519: true})
	require.NoError(t, d2.WriteFiles(dir, true))
	info, err := os.Stat(filepath.Join(dir, KeyFile))
	require.NoError(t, err)
	if runtime.GOOS != "windows" {
		require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	}
	cert, err = tls.LoadX509KeyPair(filepath.Join(dir, CertFile), filepath.Join(dir, KeyFile))
	require.NoError(t, err)
	require.Equal(t, d2.Certificate.Certificate, cert.Certificate)
}

func TestLoadPoolErrors(t *testing.T) {
	dir := t.TempDir()
	d := devCert(t, DevOptions{})
	write := func(name string, b []byte) string {
		p := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(p, b, 0o600))
		return p
	}
	_, err := LoadPool(filepath.Join(dir, "none"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = LoadPool(write("empty", nil))
	require.ErrorContains(t, err, "no PEM certificate")
	_, err = LoadPool(write("key", d.KeyPEM))
	require.ErrorContains(t, err, "PRIVATE KEY")
	_, err = LoadPool(write("bad", []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")))
	require.ErrorContains(t, err, "certificate 1")
	_, err = LoadPool(write("both", append(append([]byte("text\n"), d.KeyPEM...), d.CAPEM...)))
	require.NoError(t, err)
	_, err = LoadPool(write("huge", make([]byte, maxPoolFile+1)))
	require.ErrorContains(t, err, "too large")
}
