// Package vstp puts VSTP, a binary frame protocol, behind the types of package net.
package vstp
