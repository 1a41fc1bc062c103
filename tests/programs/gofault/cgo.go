//go:build cgo && withc

package main

// #include <unistd.h>
// static int own_pid(void) { return getpid(); }
import "C"

func init() {
	sink += uint64(C.own_pid())
}
