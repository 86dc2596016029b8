// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package delivery

import "fmt"

// Method is a way to send.
type Method uint8

const (
	// Auto leaves it to Choose.
	Auto Method = iota
	// Sendfile has the kernel send pages of the file.
	Sendfile
	// Splice has it do so by way of a pipe.
	Splice
	// Writev hands mapped bytes to the kernel, several runs at once.
	Writev
	// Write hands mapped bytes to the kernel, one run at a time.
	Write
	// Copy collects mapped bytes in a buffer and writes that.
	Copy
	// ReadWrite reads from the file into a buffer and writes that.
	ReadWrite
	// Methods is how many there are.
	Methods
)

var methodNames = [Methods]string{"auto", "sendfile", "splice", "writev", "write", "copy", "read+write"}

// String returns auto, sendfile, splice, writev, write, copy or read+write.
func (m Method) String() string {
	if m < Methods {
		return methodNames[m]
	}
	return fmt.Sprintf("Method(%d)", uint8(m))
}

// Kind is what a Send writes to.
type Kind uint8

const (
	// Other is whatever is not known to be a socket of the kernel's: TLS, any
	// wrapper, a file, a buffer. It gets copies.
	Other Kind = iota
	// TCP is a *net.TCPConn itself.
	TCP
	// Unix is a *net.UnixConn itself, of a stream.
	Unix
)

// String returns other, tcp or unix.
func (k Kind) String() string {
	switch k {
	case Other:
		return "other"
	case TCP:
		return "tcp"
	case Unix:
		return "unix"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// The crossover points of Choose. docs/zero-copy.md has the measurements.
const (
	// SendfileFrom is the length in bytes from which a run that is sent alone goes by
	// Sendfile.
	SendfileFrom = 16 << 10
	// SendfileAmongFrom is the same for a run among others: shorter ones are cheaper
	// to gather in one call than to send by one each.
	SendfileAmongFrom = 128 << 10
	// WriteFrom is the mean length of runs in bytes from which they are handed to the
	// kernel as they are. Below it, what the kernel spends on each of many small
	// pieces is no less than a second copy of them.
	WriteFrom = 4 << 10
)

// Shape is what Choose goes by.
type Shape struct {
	// Bytes and Runs are how much is sent, in how many pieces that don't touch.
	Bytes int64
	Runs  int
	// Kind is what it is sent to.
	Kind Kind
	// Descriptor says that every run has a file to send from.
	Descriptor bool
	// Cold says that some of the pages are not in memory.
	Cold bool
}

// Choose picks the cheapest way to send. It is pure. A shape without bytes gets
// Copy.
//
// A run of SendfileAmongFrom bytes or more is asked about alone: a long one among
// short ones does not make them long.
func Choose(s Shape) Method {
	mean := int64(0)
	if s.Runs > 0 {
		mean = s.Bytes / int64(s.Runs)
	}
	sockets := s.Kind == TCP || s.Kind == Unix
	switch {
	case sockets && s.Descriptor && (mean >= SendfileAmongFrom || s.Runs == 1 && mean >= SendfileFrom):
		return Sendfile // reads ahead by itself when cold
	case s.Cold && s.Descriptor:
		return ReadWrite
	case !sockets:
		return Copy
	case mean >= WriteFrom && s.Runs == 1:
		return Write
	case mean >= WriteFrom:
		return Writev
	}
	return Copy
}
