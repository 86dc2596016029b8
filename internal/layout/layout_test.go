// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"bytes"
	"encoding/binary"
	"path"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stelelog/stele/internal/crashdisk"
	"github.com/stelelog/stele/mappedfile"
	"github.com/stelelog/stele/message"
)

const dir = "/store"

// put makes files, and directories for paths that end in a slash.
func put(t *testing.T, d *crashdisk.Disk, files map[string][]byte) {
	t.Helper()
	require.NoError(t, d.MkdirAll(dir))
	for p, data := range files {
		full := path.Join(dir, p)
		if p[len(p)-1] == '/' {
			require.NoError(t, d.MkdirAll(full))
			continue
		}
		require.NoError(t, d.MkdirAll(path.Dir(full)))
		require.NoError(t, d.WriteFile(full, data))
	}
}

func logFiles(bases ...int64) map[string][]byte {
	files := map[string][]byte{}
	for _, b := range bases {
		files[CommitLog+"/"+mappedfile.FileName(b)] = make([]byte, 100)
	}
	return files
}

func wrapped(magic uint32) []byte {
	b := make([]byte, 100)
	binary.BigEndian.PutUint32(b, dledgerMagic)
	binary.BigEndian.PutUint32(b[dledgerBodyOffset+4:], magic)
	return b
}

func TestCheck(t *testing.T) {
	t.Parallel()
	first := CommitLog + "/" + mappedfile.FileName(0)
	cases := []struct {
		name   string
		files  map[string][]byte
		want   error
		layout string // of an ErrUnsupported
		text   string
	}{
		{"a log", logFiles(0, 100, 200), nil, "", ""},
		{"a log that expired in front", logFiles(500, 600, 700), nil, "", ""},
		{"a log with a hole", logFiles(0, 100, 300), nil, "", ""}, // a missing file, for others to say
		{"an empty log file", map[string][]byte{first: nil}, nil, "", ""},
		{"checkpoint alone", map[string][]byte{Checkpoint: make([]byte, 4096)}, nil, "", ""},
		{"only stele/", map[string][]byte{"stele/": nil}, nil, "", ""},
		{"more beside it", map[string][]byte{"abort": nil, "readme.txt": nil, "commitlog.bak/": nil}, nil, "", ""},
		{"nothing", map[string][]byte{}, ErrEmpty, "", dir},
		{"the root of a file system", map[string][]byte{"lost+found/": nil, "lock": []byte("lock")}, ErrEmpty, "", ""},
		{"something else", map[string][]byte{"photo.jpg": nil}, ErrNotStore, "", "photo.jpg"},
		{"the log itself", map[string][]byte{mappedfile.FileName(0): make([]byte, 10)}, ErrNotStore, "", "directory above it"},
		{"a queue in RocksDB", map[string][]byte{ConsumeQueue + "/CURRENT": []byte("MANIFEST-000001\n")}, ErrUnsupported, RocksDB, "CURRENT"},
		{"a topic CURRENT", map[string][]byte{ConsumeQueue + "/CURRENT/0/": nil}, nil, "", ""},
		{"dledger directory", map[string][]byte{"dledger-n0/": nil}, ErrUnsupported, DLedger, "dledger-n0"},
		{"dledger entries V1", map[string][]byte{first: wrapped(message.MagicV1)}, ErrUnsupported, DLedger, "wrapped"},
		{"dledger entries V2", map[string][]byte{first: wrapped(message.MagicV2)}, ErrUnsupported, DLedger, first},
		{"a record that begins like one", map[string][]byte{first: wrapped(7)}, nil, "", ""},
		{"a second log", map[string][]byte{first: make([]byte, 100), "commitlog1/" + mappedfile.FileName(100): make([]byte, 100)}, ErrUnsupported, MultiPath, "commitlog1"},
		{"every second file", logFiles(0, 200, 400), ErrUnsupported, MultiPath, "every 2 files"},
		{"every third file", logFiles(300, 600, 900), ErrUnsupported, MultiPath, "every 3 files"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := crashdisk.New()
			put(t, d, c.files)
			err := Check(d, dir, "")
			if c.want == nil {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, c.want)
			require.ErrorContains(t, err, c.text)
			var e *Error
			if c.layout == "" {
				require.ErrorIs(t, err, ErrNotStore)
				require.NotErrorAs(t, err, &e)
				return
			}
			require.ErrorAs(t, err, &e)
			require.Equal(t, c.layout, e.Layout)
		})
	}
}

func TestCheckElsewhere(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	put(t, d, map[string][]byte{"abort": nil, "log/" + mappedfile.FileName(0): wrapped(message.MagicV1)})
	require.NoError(t, Check(d, dir, ""))
	require.ErrorIs(t, Check(d, dir, dir+"/log"), ErrUnsupported)
	require.NoError(t, Check(d, dir, dir+"/missing"))
	err := Check(d, dir+"/none", "")
	require.ErrorIs(t, err, ErrNotStore)
	require.ErrorIs(t, err, syscall.ENOENT)
	require.NotErrorIs(t, err, ErrEmpty)
	require.ErrorIs(t, Check(d, dir+"/abort", ""), ErrNotStore)
	d.Inject(crashdisk.Fault{Op: crashdisk.OpList})
	err = Check(d, dir, "")
	require.ErrorIs(t, err, syscall.EIO)
	require.NotErrorIs(t, err, ErrNotStore)
}

func TestCheckBatchQueues(t *testing.T) {
	t.Parallel()
	d := crashdisk.New()
	put(t, d, logFiles(0))
	require.NoError(t, CheckBatchQueues(d, dir))
	put(t, d, map[string][]byte{BatchConsumeQueue + "/": nil})
	require.NoError(t, CheckBatchQueues(d, dir))
	put(t, d, map[string][]byte{BatchConsumeQueue + "/lots/0/": nil})
	err := CheckBatchQueues(d, dir)
	require.ErrorIs(t, err, ErrUnsupported)
	require.ErrorContains(t, err, "lots")
	require.NoError(t, Check(d, dir, ""), "a reader may leave them alone")
}

// FuzzDLedger: no first bytes of a log make the look at them panic.
func FuzzDLedger(f *testing.F) {
	f.Add(wrapped(message.MagicV1))
	f.Add(bytes.Repeat([]byte{1}, 7))
	f.Fuzz(func(t *testing.T, data []byte) {
		d := crashdisk.New()
		put(t, d, map[string][]byte{CommitLog + "/" + mappedfile.FileName(0): data})
		if err := Check(d, dir, ""); err != nil {
			require.ErrorIs(t, err, ErrUnsupported)
		}
	})
}
