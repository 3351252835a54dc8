package framing

import "slices"

// A Field is one key/value pair of a header block; both are binary.
type Field struct{ Key, Value string }

// A Header is a decoded header block: ordered, duplicates kept. Keys are compared
// byte for byte. The nil Header is empty and ready to use.
type Header []Field

// fieldOverhead is what a field costs beside its key and its value: the two lengths.
const fieldOverhead = 2

// Get returns the first value of key, or "" if there is none.
func (h Header) Get(key string) string {
	v, _ := h.Lookup(key)
	return v
}

// Lookup returns the first value of key, and reports whether there is one.
func (h Header) Lookup(key string) (string, bool) {
	for i := range h {
		if h[i].Key == key {
			return h[i].Value, true
		}
	}
	return "", false
}

// Values returns all values of key in their order, nil if there is none.
func (h Header) Values(key string) []string {
	var v []string
	for i := range h {
		if h[i].Key == key {
			v = append(v, h[i].Value)
		}
	}
	return v
}

// Add appends a field, whether or not h has one of that key.
func (h *Header) Add(key, value string) { *h = append(*h, Field{key, value}) }

// Set replaces the value of the first field of that key and removes further ones;
// if there is none, it appends one.
func (h *Header) Set(key, value string) {
	found := false
	*h = slices.DeleteFunc(*h, func(f Field) bool {
		if f.Key != key {
			return false
		}
		again := found
		found = true
		return again
	})
	if !found {
		h.Add(key, value)
		return
	}
	for i := range *h {
		if (*h)[i].Key == key {
			(*h)[i].Value = value
			return
		}
	}
}

// Del removes every field of that key.
func (h *Header) Del(key string) {
	*h = slices.DeleteFunc(*h, func(f Field) bool { return f.Key == key })
}

// Clone returns a copy that shares no memory that can be written; nil stays nil.
func (h Header) Clone() Header { return slices.Clone(h) }

// EncodedLen returns the length of the encoded block in bytes.
func (h Header) EncodedLen() int {
	n := 0
	for i := range h {
		n += fieldOverhead + len(h[i].Key) + len(h[i].Value)
	}
	return n
}

// Validate reports whether h can be encoded: [ErrKeyTooLong] and [ErrValueTooLong]
// speak of the first field that cannot, [ErrHeaderTooLarge] of the whole.
// PROTOCOL §2.
func (h Header) Validate() error {
	n := 0
	for i := range h {
		if len(h[i].Key) > MaxKeyLen {
			return ErrKeyTooLong
		}
		if len(h[i].Value) > MaxValueLen {
			return ErrValueTooLong
		}
		n += fieldOverhead + len(h[i].Key) + len(h[i].Value)
	}
	if n > MaxHeaderLen {
		return ErrHeaderTooLarge
	}
	return nil
}

// HasReserved reports whether a key of h belongs to the protocol: whether its first
// byte is below [ReservedKeys]. The empty key is not reserved. PROTOCOL §3.
func (h Header) HasReserved() bool {
	for i := range h {
		if reserved(h[i].Key) {
			return true
		}
	}
	return false
}

// reserved reports whether key belongs to the protocol.
func reserved[K ~string | ~[]byte](key K) bool { return len(key) > 0 && key[0] < ReservedKeys }

// AppendHeader appends the encoded block of h to b. The error is that of
// [Header.Validate], and b is then returned as it was.
func AppendHeader(b []byte, h Header) ([]byte, error) {
	if err := h.Validate(); err != nil {
		return b, err
	}
	for i := range h {
		b = appendField(b, h[i].Key, h[i].Value)
	}
	return b, nil
}

// AppendField appends one encoded field to b. The error is [ErrKeyTooLong] or
// [ErrValueTooLong], and b is then returned as it was. Whether the block that the
// caller builds stays within [MaxHeaderLen] is for [AppendFrame] to check.
func AppendField[K, V ~string | ~[]byte](b []byte, key K, value V) ([]byte, error) {
	if len(key) > MaxKeyLen {
		return b, ErrKeyTooLong
	}
	if len(value) > MaxValueLen {
		return b, ErrValueTooLong
	}
	return appendField(b, key, value), nil
}

func appendField[K, V ~string | ~[]byte](b []byte, key K, value V) []byte {
	b = append(b, byte(len(key)), byte(len(value)))
	b = append(b, key...)
	return append(b, value...)
}
