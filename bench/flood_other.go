//go:build !linux

package main

import "errors"

var errNoFlood = errors.New("floods need Linux")

func canFlood() error { return errNoFlood }

type flooder struct{}

func newFlooder(string, *template) (*flooder, error) { return nil, errNoFlood }

func (*flooder) send(int) (int, error) { return 0, errNoFlood }
func (*flooder) close()                {}

func socketDrops(string) uint64 { return 0 }
