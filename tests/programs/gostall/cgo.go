//go:build cgo && withc

package main

// static unsigned char touch(const unsigned char *page) { return *(const volatile unsigned char *)page; }
import "C"

import "unsafe"

func init() {
	touchInC = func(page []byte) {
		sink += uint64(C.touch((*C.uchar)(unsafe.Pointer(&page[0]))))
	}
}
