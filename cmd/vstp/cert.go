package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vstp-go/vstp/tlsvstp"
)

func newCert(o *options) *cobra.Command {
	var (
		opts  tlsvstp.DevOptions
		dir   string
		days  int
		force bool
	)
	cmd := &cobra.Command{
		Use:   "cert [HOST...]",
		Short: "Make certificates for development",
		Long: `cert makes a certification authority and a certificate signed by it for the host
names and IP addresses given; without any, for localhost, 127.0.0.1 and ::1.

It writes three files: ca.pem, which the other side needs (--ca, --client-ca),
cert.pem and key.pem, which stay (--cert, --key). The key can be read by its owner
only. The authority's own key is thrown away, so nobody can sign anything else
with it. Servers and clients can use the certificate.

For development and tests; servers on the internet should have better ones.`,
		Example: `  vstp cert                                  # for localhost, in this directory
  vstp cert -d certs files.example.org 192.0.2.7
  vstp serve --cert certs/cert.pem --key certs/key.pem ./public
  vstp get --ca certs/ca.pem files.example.org/file.iso`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if days < 1 || days > 3650 {
				return usagef("--days is 1 to 3650, not %d", days)
			}
			opts.Hosts = args
			opts.ValidFor = time.Duration(days) * 24 * time.Hour
			dev, err := tlsvstp.SelfSigned(opts)
			if err != nil {
				return &usageError{err}
			}
			if err := dev.WriteFiles(dir, force); err != nil {
				if errors.Is(err, fs.ErrExist) {
					return fmt.Errorf("%w (--force overwrites)", err)
				}
				return err
			}
			leaf := dev.Certificate.Leaf
			names := leaf.DNSNames
			for _, ip := range leaf.IPAddresses {
				names = append(names, ip.String())
			}
			o.infof(cmd.ErrOrStderr(), "certificate for %s, valid until %s",
				strings.Join(names, ", "), leaf.NotAfter.Local().Format(time.DateOnly))
			for _, f := range []string{tlsvstp.CAFile, tlsvstp.CertFile, tlsvstp.KeyFile} {
				fmt.Fprintln(cmd.OutOrStdout(), filepath.Join(dir, f))
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&dir, "dir", "d", ".", "`directory` to write to; made if it does not exist")
	cmd.Flags().IntVar(&days, "days", 90, "validity in days")
	cmd.Flags().BoolVar(&opts.Ed25519, "ed25519", false, "an Ed25519 key instead of ECDSA P-256")
	cmd.Flags().BoolVarP(&force, "force", "f", false, "overwrite existing files")
	return cmd
}
