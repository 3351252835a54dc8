// Package auto decides on which of two carriers a session sends: datagrams or a byte stream.
package auto
