package session

import "io"

// Copy writes r to w until its end, by way of b. An error of r is a *CopyError.
func Copy(w io.Writer, r io.Reader, b []byte) (n int64, err error) {
	for {
		m, rerr := r.Read(b)
		if m > 0 {
			k, werr := w.Write(b[:m])
			n += int64(k)
			if werr != nil {
				return n, werr
			}
		}
		if rerr == io.EOF {
			return n, nil
		}
		if rerr != nil {
			return n, &CopyError{Err: rerr}
		}
	}
}
