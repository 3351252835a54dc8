package framing

// A Field is one key/value pair of a header block; both are binary.
type Field struct{ Key, Value string }

// A Header is a decoded header block: ordered, duplicates kept.
type Header []Field
