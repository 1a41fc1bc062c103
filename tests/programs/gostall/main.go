// Goroutines that touch cold pages of a slow file, beside a ticker that measures how late the scheduler
// is and a goroutine that is always ready to run.
//
//	gostall FILE MODE READERS PAUSE_US PAGES [PROCS]
//
// MODE is how pages are touched: mmap, cgo (in C), syscall (by pread of something else into the
// mapping), pread (read, not mapped). Each reader touches PAGES pages of its own, with a pause after each. When
// the first has touched half of them, GOMAXPROCS becomes PROCS.
// Says what it did as JSON when all have ended.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/pprof"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const page = 4096

var (
	sink     uint64
	touchInC func([]byte)
)

// What a reader did.
type reader struct {
	Goroutine uint64 `json:"goroutine"`
	First     int    `json:"first"`
	Touches   int    `json:"touches"`
}

// What all did.
type report struct {
	Readers []*reader `json:"readers"`
	Version string    `json:"version"`
	// How late the ticker was: in all by more than a tolerance, at the 99th percentile, at most.
	LateNs    int64 `json:"late_ns"`
	LateP99Ns int64 `json:"late_p99_ns"`
	LateMaxNs int64 `json:"late_max_ns"`
	Ticks     int   `json:"ticks"`
	// How long it all took.
	TookNs int64 `json:"took_ns"`
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func number(argument int) int {
	value, err := strconv.Atoi(os.Args[argument])
	check(err)
	return value
}

// The number of the current goroutine, as the runtime prints it.
func goroutine() uint64 {
	text := make([]byte, 64)
	text = text[:runtime.Stack(text, false)]
	fields := strings.Fields(string(text))
	id, err := strconv.ParseUint(fields[1], 10, 64)
	check(err)
	return id
}

//go:noinline
func touchMapped(page []byte) {
	sink += uint64(page[0]) // TOUCH LINE
}

// The file, and how to touch a page of it.
type slow struct {
	file  *os.File
	bytes []byte
	zero  *os.File
}

func open(path string, mode string) (slow, func(offset int)) {
	file, err := os.Open(path)
	check(err)
	// Of a block device as well.
	size, err := file.Seek(0, io.SeekEnd)
	check(err)
	// Written to by the kernel in mode `syscall`, which the file must not be.
	bytes, err := syscall.Mmap(int(file.Fd()), 0, int(size), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE)
	check(err)
	check(syscall.Madvise(bytes, syscall.MADV_RANDOM))
	zero, err := os.Open("/dev/zero")
	check(err)
	of := slow{file, bytes, zero}
	switch mode {
	case "mmap":
		return of, func(offset int) { touchMapped(bytes[offset:]) }
	case "cgo":
		return of, func(offset int) { touchInC(bytes[offset:]) }
	case "syscall":
		return of, func(offset int) {
			_, err := syscall.Pread(int(zero.Fd()), bytes[offset:offset+8], 0)
			check(err)
		}
	case "pread":
		return of, func(offset int) {
			buffer := make([]byte, page)
			_, err := syscall.Pread(int(file.Fd()), buffer, int64(offset))
			check(err)
		}
	}
	panic(mode)
}

func (of *reader) read(first int, pages int, pause time.Duration, touch func(int)) {
	of.Goroutine = goroutine()
	labels := pprof.Labels("reader", strconv.Itoa(first), "a long one", strings.Repeat("ab", 40))
	pprof.SetGoroutineLabels(pprof.WithLabels(context.Background(), labels))
	for index := 0; index < pages; index++ {
		touch((first + index) * page)
		of.Touches++
		if first == 0 && index == pages/2 && len(os.Args) > 6 {
			runtime.GOMAXPROCS(number(6))
		}
		if pause > 0 {
			time.Sleep(pause)
		}
	}
}

// Wakes up each ms, and notes by how much it was late. In a system call: a timer of the runtime is kept by
// a P, and late when that P alone is stuck, as long as the others have something else to do.
func tick(stop *atomic.Bool, late *[]int64) {
	const period = time.Millisecond
	for next := time.Now().Add(period); !stop.Load(); {
		if left := time.Until(next); left > 0 {
			pause := syscall.NsecToTimespec(int64(left))
			_ = syscall.Nanosleep(&pause, nil)
		}
		now := time.Now()
		*late = append(*late, int64(now.Sub(next)))
		next = now.Add(period)
	}
}

func (of *report) ticked(late []int64) {
	// A busy machine makes it late, too, but hardly by so much.
	const tolerance = int64(20 * time.Millisecond)
	of.Ticks = len(late)
	for _, ns := range late {
		if ns > tolerance {
			of.LateNs += ns
		}
	}
	if len(late) > 0 {
		sort.Slice(late, func(a, b int) bool { return late[a] < late[b] })
		of.LateP99Ns = late[len(late)*99/100]
		of.LateMaxNs = late[len(late)-1]
	}
}

func main() {
	_, touch := open(os.Args[1], os.Args[2])
	readers, pages := number(3), number(5)
	pause := time.Duration(number(4)) * time.Microsecond
	pid := os.Getpid()
	fmt.Printf("ready {\"pid\":%d,\"tids\":[%d],\"places\":{}}\n", pid, pid)
	lines := bufio.NewScanner(os.Stdin)
	lines.Scan()
	var stop atomic.Bool
	var late []int64
	var beside, all sync.WaitGroup
	beside.Add(2)
	go func() {
		defer beside.Done()
		tick(&stop, &late)
	}()
	go func() {
		defer beside.Done()
		for !stop.Load() {
			runtime.Gosched()
		}
	}()
	told := report{Version: runtime.Version()}
	begin := time.Now()
	for index := 0; index < readers; index++ {
		one := &reader{First: index * pages}
		told.Readers = append(told.Readers, one)
		all.Add(1)
		go func(first int) {
			defer all.Done()
			one.read(first, pages, pause, touch)
		}(index * pages)
	}
	all.Wait()
	told.TookNs = int64(time.Since(begin))
	stop.Store(true)
	beside.Wait()
	told.ticked(late)
	text, err := json.Marshal(told)
	check(err)
	fmt.Printf("done %s\n", text)
	for lines.Scan() {
	}
}
