//go:build race

package udpio

// poison has handed out memory overwritten when it is used again, to find those who
// keep it.
const poison = true
