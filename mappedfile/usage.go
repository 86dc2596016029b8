// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package mappedfile

// Usage is how full a file system is, in bytes. What only the superuser may use
// counts neither as used nor as free, as df has it. The zero value says nothing.
type Usage struct {
	Used, Free int64
}

// DiskUsage returns the use of the file system that dir is on. A Disk that can't
// tell, as it lacks a method `Usage(dir string) (Usage, error)`, returns the zero
// value.
func DiskUsage(d Disk, dir string) (Usage, error) {
	if u, ok := d.(interface {
		Usage(dir string) (Usage, error)
	}); ok {
		return u.Usage(dir)
	}
	return Usage{}, nil
}
