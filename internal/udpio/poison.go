package udpio

func overwrite(b []byte) {
	for i := range b {
		b[i] = 0xdd
	}
}
