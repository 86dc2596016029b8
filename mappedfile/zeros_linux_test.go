// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package mappedfile_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/stelelog/stele/mappedfile"
)

// Blocks that were only reserved count as holes, and those with zeros do not.
func TestZerosAreWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var st unix.Statfs_t
	require.NoError(t, unix.Statfs(dir, &st))
	if st.Type != unix.EXT4_SUPER_MAGIC && st.Type != unix.XFS_SUPER_MAGIC {
		t.Skipf("file system %#x is not one where zeros help", st.Type)
	}
	f := newFile(t, mappedfile.OS(), dir)
	w := mappedfile.NewFileWriter(f, make([]byte, page), 0, 2*page)
	defer w.Close()
	require.NoError(t, w.Put(0, []byte("x")))
	require.NoError(t, w.Commit(1))
	require.NoError(t, f.Flush(0, 1))
	require.EqualValues(t, 2*page, f.NextData(2*page))
	require.EqualValues(t, writerFile, f.NextData(3*page))
}
