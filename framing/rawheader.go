package framing

import "iter"

// A RawHeader is an encoded header block. As part of a parsed [Frame] it is a view
// of the input, valid as long as that is. It may be read concurrently.
//
// An encoded block is a sequence of fields without a count: it adds up when the last
// field ends where the block ends. PROTOCOL §2.
type RawHeader []byte

// Next returns the first field, as views of r, and what follows it. The end of the
// block is reached when len(r) is 0, which the caller checks:
//
//	for len(r) > 0 {
//		if key, value, r, err = r.Next(); err != nil {
//			return err
//		}
//		...
//	}
//
// The error is [ErrHeader]: r ends inside the field, or is empty.
func (r RawHeader) Next() (key, value []byte, rest RawHeader, err error) {
	if len(r) < fieldOverhead {
		return nil, nil, nil, ErrHeader
	}
	k := fieldOverhead + int(r[0])
	v := k + int(r[1])
	if len(r) < v {
		return nil, nil, nil, ErrHeader
	}
	return r[fieldOverhead:k:k], r[k:v:v], r[v:], nil
}

// All returns an iterator over the keys and values, which are views of r. It stops
// at the end or at a malformed field; a block that comes from [Parse] has none.
func (r RawHeader) All() iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		for r := r; len(r) > 0; {
			key, value, rest, err := r.Next()
			if err != nil || !yield(key, value) {
				return
			}
			r = rest
		}
	}
}

// Validate returns [ErrHeader] if the block does not add up.
func (r RawHeader) Validate() error {
	for i := 0; i < len(r); {
		if len(r)-i < fieldOverhead {
			return ErrHeader
		}
		i += fieldOverhead + int(r[i]) + int(r[i+1])
		if i > len(r) {
			return ErrHeader
		}
	}
	return nil
}

// Lookup returns the first value of key, as a view of r, and reports whether there
// is one. It does not allocate, and looks no further than a malformed field.
func (r RawHeader) Lookup(key string) ([]byte, bool) {
	for len(r) > 0 {
		k, v, rest, err := r.Next()
		if err != nil {
			break
		}
		if string(k) == key {
			return v, true
		}
		r = rest
	}
	return nil, false
}

// AppendTo decodes the block and appends all of its fields to h. The strings share
// one copy of the block, so keeping one of them keeps the block. The error is
// [ErrHeader], and h is then returned as it was.
func (r RawHeader) AppendTo(h Header) (Header, error) {
	return r.decode(h, false)
}

// AppendUser is as [RawHeader.AppendTo] without the fields whose keys belong to the
// protocol: it gives what the application at the other end has put in. PROTOCOL §3.
func (r RawHeader) AppendUser(h Header) (Header, error) {
	return r.decode(h, true)
}

// decode walks the block twice: the fields are counted before there is memory for
// them, so their number, which is at most half of len(r), costs one allocation, and
// a malformed block none.
func (r RawHeader) decode(h Header, userOnly bool) (Header, error) {
	if err := r.Validate(); err != nil {
		return h, err
	}
	n := 0
	for key := range r.All() {
		if !userOnly || !reserved(key) {
			n++
		}
	}
	if n == 0 {
		return h, nil
	}
	if cap(h)-len(h) < n {
		h = append(make(Header, 0, len(h)+n), h...)
	}
	for s := string(r); len(s) > 0; {
		k := fieldOverhead + int(s[0])
		v := k + int(s[1])
		if key := s[fieldOverhead:k]; !userOnly || !reserved(key) {
			h = append(h, Field{key, s[k:v]})
		}
		s = s[v:]
	}
	return h, nil
}
