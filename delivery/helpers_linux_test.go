// Copyright the Stele authors.
// SPDX-License-Identifier: Apache-2.0

package delivery_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/stelelog/stele/delivery"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// mapFile makes a file of n random bytes and maps it.
func mapFile(t testing.TB, n int, base int64) *delivery.Source {
	t.Helper()
	data := make([]byte, n)
	seed := [32]byte{byte(n), byte(base)}
	_, _ = mathrand.NewChaCha8(seed).Read(data)
	return mapBytes(t, data, base)
}

// mapBytes makes a file of data and maps it.
func mapBytes(t testing.TB, data []byte, base int64) *delivery.Source {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, data, 0o600))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	mapped, err := unix.Mmap(int(f.Fd()), 0, len(data), unix.PROT_READ, unix.MAP_SHARED)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Munmap(mapped)) })
	return &delivery.Source{Data: mapped, File: f, Base: base, Path: path}
}

// bytesOf are the bytes that a peer must get.
func bytesOf(runs []delivery.Run) (all []byte) {
	for _, r := range runs {
		all = append(all, r.Source.Data[r.From:r.To]...)
	}
	return all
}

// network makes a connection: its two ends, closed when the test ends.
type network func(t testing.TB) (here, there net.Conn)

// listen is the network of a name, with a send buffer as small as the kernel
// allows, so that hardly anything goes out at once. (With a small receive buffer
// TCP would wait for its timers.)
func listen(name string) network {
	return func(t testing.TB) (here, there net.Conn) {
		t.Helper()
		address := "127.0.0.1:0"
		if name == "unix" {
			address = filepath.Join(t.TempDir(), "s")
		}
		l, err := net.Listen(name, address)
		require.NoError(t, err)
		defer func() { require.NoError(t, l.Close()) }()
		there, err = net.Dial(name, l.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { _ = there.Close() })
		here, err = l.Accept()
		require.NoError(t, err)
		t.Cleanup(func() { _ = here.Close() })
		require.NoError(t, here.(interface{ SetWriteBuffer(n int) error }).SetWriteBuffer(1))
		return here, there
	}
}

// wrapper is a connection of somebody's own, as a proxy or a meter is.
type wrapper struct{ *net.TCPConn }

func wrapped(t testing.TB) (here, there net.Conn) {
	here, there = listen("tcp")(t)
	return wrapper{here.(*net.TCPConn)}, there
}

// overTLS is a connection that encrypts.
func overTLS(t testing.TB) (here, there net.Conn) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"stele"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	here, there = listen("tcp")(t)
	server := tls.Server(here, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	client := tls.Client(there, &tls.Config{RootCAs: roots, ServerName: "stele"})
	shaken := make(chan error, 1)
	go func() { shaken <- server.Handshake() }()
	require.NoError(t, client.Handshake())
	require.NoError(t, <-shaken)
	return server, client
}

// readAll has everything that comes, in the end.
func readAll(c net.Conn) <-chan []byte {
	got := make(chan []byte, 1)
	go func() {
		all, _ := io.ReadAll(c) // an error ends it; what is missing is told by the bytes
		got <- all
	}()
	return got
}

// openFiles counts the descriptors of this process.
func openFiles(t testing.TB) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(all)
}
