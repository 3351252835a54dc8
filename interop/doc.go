// Package interop holds the tests of vstp against the original Rust crate, vstp 0.2.1,
// run as a program of its own (rust/). README.md has what works with it, and what cannot.
// The tests build that program with cargo, so they run only if VSTP_INTEROP is set;
// the script run beside them does all.
package interop
