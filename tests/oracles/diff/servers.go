package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A member of one, started for this run on a fresh directory.
type server struct {
	endpoint string
	dir      string
	command  *exec.Cmd
	exited   chan struct{}
}

// Flags that make a run fast and repeatable, for binaries that know them.
var wishes = [][2]string{
	{"--unsafe-no-fsync", ""},
	{"--auth-token-ttl", "1000000"}, // a token must not expire on one side only
	{"--bcrypt-cost", "4"},
	{"--quota-backend-bytes", "17179869184"},
	{"--log-level", "error"},
	{"--snapshot-count", "10000"},
	{"--nospace-auto-clear", "false"},
}

// startServer starts it with the wishes, or else without.
func startServer(name, binary string, args []string) (*server, error) {
	help, _ := exec.Command(binary, "--help").CombinedOutput()
	var granted []string
	for _, wish := range wishes {
		if strings.Contains(string(help), wish[0]) {
			granted = append(granted, strings.TrimSuffix(wish[0]+"="+wish[1], "="))
		}
	}
	s, err := launch(name, binary, append(granted, args...))
	if err != nil && len(granted) > 0 {
		fmt.Fprintf(os.Stderr, "diff: %s does not start with %s: once more without\n", binary, strings.Join(granted, " "))
		return launch(name, binary, args)
	}
	return s, err
}

func launch(name, binary string, args []string) (*server, error) {
	dir, err := os.MkdirTemp("", "cairn-diff-"+name+"-")
	if err != nil {
		return nil, err
	}
	s := &server{dir: dir, exited: make(chan struct{})}
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	s.endpoint = "127.0.0.1:" + ports[0]
	client, peer := scheme()+s.endpoint, "http://127.0.0.1:"+ports[1]
	all := []string{
		"--name", "m", "--data-dir", filepath.Join(dir, "data"),
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "m=" + peer,
	}
	if overTLS {
		all = append(all, "--auto-tls")
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s.command = exec.Command(binary, append(all, args...)...)
	s.command.Stdout, s.command.Stderr = log, log
	s.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // not left behind if we are killed
	if err := s.command.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = s.command.Wait()
		close(s.exited)
	}()
	for begin := time.Now(); time.Since(begin) < 30*time.Second; time.Sleep(20 * time.Millisecond) {
		select {
		case <-s.exited:
			text, _ := os.ReadFile(filepath.Join(dir, "log"))
			s.stop()
			return nil, fmt.Errorf("%s ended at once: %s", binary, text)
		default:
		}
		if conn, err := net.DialTimeout("tcp", s.endpoint, time.Second); err == nil {
			conn.Close()
			return s, nil
		}
	}
	s.stop()
	return nil, fmt.Errorf("%s does not listen", binary)
}

func (s *server) stop() {
	_ = s.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.exited:
	case <-time.After(10 * time.Second):
		_ = s.command.Process.Kill()
		<-s.exited
	}
	if text, err := os.ReadFile(filepath.Join(s.dir, "log")); err == nil {
		if at := strings.Index(string(text), "\npanic: "); at >= 0 {
			lines := strings.SplitN(string(text[at:]), "\n", 20)
			fmt.Printf("diff: the server at %s ended with%s\n", s.endpoint, strings.Join(lines[:len(lines)-1], "\n  "))
		}
	}
	_ = os.RemoveAll(s.dir)
}

func freePorts(count int) ([]string, error) {
	var ports []string
	for range count {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer listener.Close()
		_, port, _ := net.SplitHostPort(listener.Addr().String())
		ports = append(ports, port)
	}
	return ports, nil
}
