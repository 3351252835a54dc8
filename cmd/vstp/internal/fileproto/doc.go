// Package fileproto is the protocol between "vstp get" or "vstp put" and "vstp
// serve": version 1 of the service "files".
//
// # Carrier
//
// One VSTP connection carries any number of requests, one after the other. What is
// said travels in messages, what is in a file on the byte stream. A server names
// the service in its WELCOME, as metadata "vstp-service: files/1", so that a client
// notices at once when something else listens.
//
// A message has one header field, "op", and a JSON object of at most [MaxControl]
// bytes as its payload. Unknown members are ignored, unknown operations are errors.
// Both sides send in one order only, the one below, so content can never be
// mistaken: it lies between the message that announces its length and the message
// with its digest.
//
//	client                                server
//	------                                ------
//	stat {path}                      ->
//	                                 <-   info {entry}
//
//	list {path}                      ->
//	                                 <-   entries {entries, more} ...
//
//	get {path, offset, sha256}       ->
//	                                 <-   file {size, mtime, mode, offset}
//	                                 <=   size-offset bytes
//	                                 <-   done {sha256}
//
//	put {path, size, mtime, mode}    ->
//	                                 <-   ready {offset, sha256}
//	content {offset}                 ->
//	size-offset bytes                =>
//	done {sha256}                    ->
//	                                 <-   stored {}
//
//	put {..., eager: true}           ->
//	size bytes                       =>
//	done {sha256}                    ->
//	                                 <-   stored {}
//
//	mkdir {path, mode}               ->
//	                                 <-   stored {}
//
// Instead of any answer the server may send error {code, text} and go on with the
// next request. When it has answered an eager put so, it has passed over the content
// and its done. A side that cannot keep to what it has announced, because a file got
// shorter while it was sent for instance, ends the connection with an ERR frame.
//
// A client need not wait for answers before it sends further requests, up to
// [Window] of them; they are answered in order. Eager puts, for files of up to
// [MaxEager] bytes, and gets without offset are made for that: a directory of small
// files takes few round trips.
//
// # Paths
//
// A path is relative to the served directory: UTF-8, components separated by
// slashes, none of them empty, "." or "..", at most [MaxPath] bytes; "." alone is
// the directory itself. Both sides open paths through os.Root, so neither a path
// nor a symbolic link leads out of the directory.
//
// # Resuming
//
// Content goes to a partial file beside its destination, and takes its name when
// all of it is there and has the right SHA-256. A partial file that is found later
// holds the beginning of some file; of which one is not written down, as it could be
// wrong. The receiver instead offers its length and the SHA-256 of all of it; the
// sender, who must hash the same bytes anyway for the final digest, compares, and
// answers with the offset to go on from: that length, or zero. So a source that has
// changed starts again, and one that was only appended to does not.
//
// # Bounds
//
// A peer is held to [MaxControl] for a message, [MaxPath] for a path, [MaxEntries]
// for a listing and the size it has announced for content. Nothing is allocated by
// an announced size. Each wait for the peer ends after a stall timeout.
package fileproto
