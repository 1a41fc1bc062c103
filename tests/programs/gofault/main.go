// Faults in a known line of an inlined function: outer > middle > touchPage (inlined), or, every other page,
// in assembly that has no frame of its own: outer > copyPage > runtime.memmove. Writes its own stacks as the
// runtime tells them to the file of the second argument.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"syscall"
)

var sink uint64

// One frame, as runtime.CallersFrames tells it.
type frame struct {
	Function string `json:"function"`
	File     string `json:"file"`
	Line     int    `json:"line"`
}

func touchPage(page []byte) {
	sink += uint64(page[0]) // FAULT LINE
}

//go:noinline
func stack() []frame {
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	var all []frame
	for {
		one, more := frames.Next()
		all = append(all, frame{one.Function, one.File, one.Line})
		if !more {
			return all
		}
	}
}

//go:noinline
func middle(page []byte) []frame {
	here := stack()
	touchPage(page) // MIDDLE LINE
	return here
}

var room [4096]byte

//go:noinline
func copyPage(page []byte) []frame {
	here := stack()
	copy(room[:], page) // COPY LINE
	return here
}

//go:noinline
func outer(page []byte, byCopy bool) []frame {
	var here []frame
	if byCopy {
		here = copyPage(page)
	} else {
		here = middle(page)
	}
	sink++
	return here
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	file, err := os.Open(os.Args[1])
	check(err)
	status, err := file.Stat()
	check(err)
	pages, err := syscall.Mmap(int(file.Fd()), 0, int(status.Size()), syscall.PROT_READ, syscall.MAP_SHARED)
	check(err)
	check(syscall.Madvise(pages, syscall.MADV_RANDOM))
	pid := os.Getpid()
	fmt.Printf("ready {\"pid\":%d,\"tids\":[%d],\"places\":{}}\n", pid, pid)
	lines := bufio.NewScanner(os.Stdin)
	lines.Scan()
	var here [2][]frame
	for page := 0; page < len(pages)/4096; page++ {
		here[page%2] = outer(pages[page*4096:], page%2 == 1)
	}
	text, err := json.Marshal(here)
	check(err)
	check(os.WriteFile(os.Args[2], text, 0o600))
	fmt.Println("done {}")
	for lines.Scan() {
	}
}
