package vstp_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vstp-go/vstp"
)

// io.Copy from a file ends in Conn.ReadFrom, which without checksum and compression
// goes by sendfile; io.Copy to one in Conn.WriteTo (N13).

// withSendfile are the transports, and Unix sockets without checksum.
func withSendfile() []transport {
	return append(transports[:len(transports):len(transports)],
		transport{name: "unix-nocrc", network: "unix", config: vstp.Config{Checksum: vstp.ChecksumOff}})
}

// testFile returns a file with n bytes of content.
func testFile(t *testing.T, n int64) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	_, err = io.Copy(f, content(n))
	require.NoError(t, err)
	_, err = f.Seek(0, io.SeekStart)
	require.NoError(t, err)
	return f
}

// offset returns where f is read next.
func offset(t *testing.T, f *os.File) int64 {
	t.Helper()
	pos, err := f.Seek(0, io.SeekCurrent)
	require.NoError(t, err)
	return pos
}

func TestReadFromFile(t *testing.T) {
	const size = 2_500_000
	for _, tr := range withSendfile() {
		t.Run(tr.name, func(t *testing.T) {
			sendfile := tr.network == "tcp" && tr.config.Checksum == vstp.ChecksumOff
			ln, d := tr.start(t)
			for _, part := range []struct {
				name         string
				from, length int64
				limited      int64 // 0: no LimitedReader
			}{
				{name: "all", length: size},
				{name: "from an offset", from: 999, length: size - 999},
				{name: "limited", from: 1000, length: 777_777, limited: 777_777},
				{name: "limited to one byte", from: 1, length: 1, limited: 1},
				{name: "limit beyond the end", from: 5, length: size - 5, limited: size},
				{name: "at the end", from: size},
			} {
				t.Run(part.name, func(t *testing.T) {
					c, s := connect(t, ln, d)
					f := testFile(t, size)
					_, err := f.Seek(part.from, io.SeekStart)
					require.NoError(t, err)
					var r io.Reader = f
					limit := &io.LimitedReader{R: f, N: part.limited}
					if part.limited > 0 {
						r = limit
					}
					sent := async(func() error {
						n, err := io.Copy(c, r)
						if err == nil && n != part.length {
							err = errors.New("wrong count")
						}
						return errors.Join(err, c.Close())
					})
					want := contentBytes(size)[part.from : part.from+part.length]
					got, err := io.ReadAll(s)
					require.NoError(t, err)
					require.NoError(t, receive(t, sent))
					require.True(t, bytes.Equal(want, got), "%d bytes", len(got))
					require.Equal(t, part.from+part.length, offset(t, f), "the file's offset moves by what was sent")
					if part.limited > 0 {
						require.Equal(t, part.limited-part.length, limit.N)
					}
					if sendfile && part.length == size {
						require.Less(t, c.Stats().FramesSent, uint64(20), "frames of sendfile are larger than those of Write")
					}
				})
			}
		})
	}
}

// A write deadline inside a file leaves the connection and the file as after any
// partial Write: what was counted arrives, the file goes on behind it.
func TestReadFromFileDeadline(t *testing.T) {
	const size = 40_000_000 // more than the buffers of both ends
	for _, tr := range withSendfile() {
		t.Run(tr.name, func(t *testing.T) {
			c, s := tr.pair(t)
			f := testFile(t, size)
			var total int64
			for range 3 {
				require.NoError(t, c.SetWriteDeadline(time.Now().Add(30*time.Millisecond)))
				n, err := c.ReadFrom(f)
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
				total += n
				if tr.network == "tcp" && tr.config.Checksum == vstp.ChecksumOff {
					require.Equal(t, total, offset(t, f))
				}
				_, err = f.Seek(total, io.SeekStart) // a copy through a buffer may have read further
				require.NoError(t, err)
			}
			require.NoError(t, c.SetWriteDeadline(time.Time{}))
			sent := async(func() error {
				_, err := c.ReadFrom(f)
				return errors.Join(err, c.Close())
			})
			got, err := digestOf(s)
			require.NoError(t, err)
			require.NoError(t, receive(t, sent))
			require.Equal(t, contentDigest(size), got)
		})
	}
}

// A file that becomes shorter while it is sent ends the connection where a frame of its
// bytes was announced, with an error at both ends and nothing made up; a copy through
// a buffer sends what there was.
func TestReadFromFileTruncated(t *testing.T) {
	for _, tr := range withSendfile() {
		t.Run(tr.name, func(t *testing.T) {
			c, s := tr.pair(t)
			const size = 60_000_000 // more than sockets hold
			f := testFile(t, size)
			sent := async(func() error { _, err := c.ReadFrom(f); return err })
			first := make([]byte, 1)
			_, err := io.ReadFull(s, first)
			require.NoError(t, err)
			require.NoError(t, f.Truncate(0))
			received := async(func() digest { d, rerr := digestOf(io.MultiReader(bytes.NewReader(first), s)); err = rerr; return d })
			serr := receive(t, sent)
			c.Close()
			got := receive(t, received)
			require.Less(t, got.n, int64(size))
			require.Equal(t, contentDigest(got.n), got)
			if tr.network != "tcp" || tr.config.Checksum != vstp.ChecksumOff {
				require.NoError(t, serr)
				require.NoError(t, err)
				return
			}
			var oe *net.OpError
			require.True(t, errors.As(serr, &oe), "%v", serr)
			require.ErrorContains(t, serr, "shorter")
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
			_, serr = c.Write([]byte("x"))
			require.Error(t, serr)
		})
	}
}

// An error of the other end of a copy comes back as it is, and the connection works on.
func TestCopyErrors(t *testing.T) {
	broken := errors.New("broken")
	eachTransport(t, func(t *testing.T, tr transport) {
		c, s := tr.pair(t)
		n, err := io.Copy(c, io.MultiReader(content(100_000), readerFunc(func([]byte) (int, error) { return 0, broken })))
		require.Equal(t, broken, err)
		require.EqualValues(t, 100_000, n)
		_, err = c.Write([]byte("more"))
		require.NoError(t, err)

		calls := 0
		n, err = io.Copy(writerFunc(func(p []byte) (int, error) {
			if calls++; calls == 1 {
				return 10, broken
			}
			return len(p), nil
		}), s)
		require.Equal(t, broken, err)
		require.EqualValues(t, 10, n)
		n, err = io.Copy(writerFunc(func(p []byte) (int, error) { return len(p) - 1, nil }), s)
		require.Equal(t, io.ErrShortWrite, err)
		require.NotZero(t, n)
		require.NoError(t, c.Close())
		_, err = io.Copy(io.Discard, s)
		require.NoError(t, err)
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// WriteTo a file: all of it, also in pieces between read deadlines (N13: it does not
// bypass them).
func TestWriteToFile(t *testing.T) {
	const size = 5_000_000
	eachTransport(t, func(t *testing.T, tr transport) {
		c, s := tr.pair(t)
		f := testFile(t, 0)
		pieces := []int64{1, 100_000, size - 100_001}
		next := make(chan struct{}, len(pieces))
		sent := async(func() error {
			r := content(size)
			for _, n := range pieces {
				<-next
				if _, err := io.CopyN(c, r, n); err != nil {
					return err
				}
			}
			return c.CloseWrite()
		})
		var total int64
		for range pieces[1:] {
			next <- struct{}{}
			require.NoError(t, s.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
			n, err := io.Copy(f, s)
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			total += n
		}
		next <- struct{}{}
		require.NoError(t, s.SetReadDeadline(time.Time{}))
		n, err := io.Copy(f, s)
		require.NoError(t, err)
		require.NoError(t, receive(t, sent))
		require.EqualValues(t, size, total+n)
		_, err = f.Seek(0, io.SeekStart)
		require.NoError(t, err)
		got, err := digestOf(f)
		require.NoError(t, err)
		require.Equal(t, contentDigest(size), got)
	})
}
