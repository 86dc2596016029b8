// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package mappedfile

// View is a borrowed piece of a File. It keeps the file mapped until Release,
// also when the file is removed meanwhile. The zero View is empty.
//
// A View is a value: copy it only to hand it on. Exactly one of the copies is
// released, once. It may be released by another goroutine than the one that
// took it.
type View struct {
	file *File
	data []byte
}

// Bytes returns the borrowed bytes: the file's own pages, valid until Release,
// not to be written.
func (v View) Bytes() []byte { return v.data }

// File returns the file that the bytes belong to, valid until Release. It is
// nil for the zero View.
func (v View) File() *File { return v.file }

// Release gives the bytes back. Releasing a zero or released View does nothing.
func (v *View) Release() {
	f := v.file
	if f == nil {
		return
	}
	v.file, v.data = nil, nil
	f.release()
}
