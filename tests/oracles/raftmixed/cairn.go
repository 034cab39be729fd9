package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// program is cairn_raft_node, which holds all of Cairn's members of a life.
type program struct {
	command *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
}

func startProgram(path, mutant string) (*program, error) {
	p := &program{command: exec.Command(path)}
	if mutant == "" { // what a mutant says as it dies is no news
		p.command.Stderr = os.Stderr
	}
	in, err := p.command.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := p.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.in, p.out = in, bufio.NewReaderSize(out, 1<<16)
	if err := p.command.Start(); err != nil {
		return nil, err
	}
	if mutant != "" {
		p.call("mutant " + mutant)
	}
	return p, nil
}

func (p *program) stop() {
	p.in.Close()
	p.command.Wait()
}

// call answers with the lines that the command makes.
func (p *program) call(command string) []string {
	if _, err := io.WriteString(p.in, command+"\n"); err != nil {
		violate("cairn died of an earlier command than %q: %v", command, err)
	}
	var lines []string
	for {
		line, err := p.out.ReadString('\n')
		if err != nil {
			violate("cairn died of %q", command)
		}
		if line == ".\n" {
			return lines
		}
		lines = append(lines, strings.TrimSuffix(line, "\n"))
	}
}

// cairn is one of Cairn's members.
type cairn struct {
	world   *World
	program *program
	id      uint64
	up      bool
	state   struct { // as the node program says it
		role                                                       int
		leader, term, commit, applied, writesInHand, entriesInHand uint64
		conf                                                       Conf
	}
}

func newCairn(w *World, p *program, id uint64, preVote bool) *cairn {
	p.call(fmt.Sprintf("member %d %d %d", id, flag01(preVote), w.random.Uint32()))
	return &cairn{world: w, program: p, id: id}
}

func (c *cairn) run(format string, args ...any) {
	command := fmt.Sprintf(format, args...)
	c.world.trace("%d< %s", c.id, command)
	var sent []Message
	for _, line := range c.program.call(fmt.Sprintf("%d %s", c.id, command)) {
		w := words{strings.Split(line, " ")}
		switch w.next() {
		case "M":
			sent = append(sent, w.message())
		case "R":
			c.world.answeredRead(w.bytes(), w.number())
		case "A":
			index, term := w.number(), w.number()
			c.world.applied(c.id, Entry{term, index, int(w.number()), w.bytes()})
		case "C":
			c.world.configured(c.id, w.number(), w.conf())
		case "S":
			s := &c.state
			s.role, s.leader, s.term, s.commit = int(w.number()), w.number(), w.number(), w.number()
			s.applied, s.writesInHand, s.entriesInHand, s.conf = w.number(), w.number(), w.number(), w.conf()
			c.world.committed(s.commit)
		default:
			violate("cairn %d: %s", c.id, line)
		}
	}
	for _, message := range sent {
		c.world.post(message)
	}
}

func (c *cairn) ID() uint64                      { return c.id }
func (c *cairn) Kind() string                    { return "cairn" }
func (c *cairn) Up() bool                        { return c.up }
func (c *cairn) Applied() uint64                 { return c.state.applied }
func (c *cairn) IsLeader() bool                  { return c.up && c.state.role == 2 }
func (c *cairn) Found(conf Conf)                 { c.run("found %s", conf) }
func (c *cairn) Step(message Message)            { c.run("step %s", message) }
func (c *cairn) Tick(times int)                  { c.run("tick %d", times) }
func (c *cairn) Propose(data string)             { c.run("propose %s", bytesText(data)) }
func (c *cairn) ProposeConf(change ConfChange)   { c.run("conf %d %d", change.Type, change.NodeID) }
func (c *cairn) Read(context string)             { c.run("read %s", bytesText(context)) }
func (c *cairn) Transfer(to uint64)              { c.run("transfer %d", to) }
func (c *cairn) Forget()                         { c.run("forget") }
func (c *cairn) Compact(kept uint64)             { c.run("compact %d", kept) }
func (c *cairn) SnapshotDone(to uint64, ok bool) { c.run("snapshot %d %d", to, flag01(ok)) }
func (c *cairn) Unreachable(peer uint64)         { c.run("unreachable %d", peer) }

// The node program is not asked where it has nothing to do: most of a life's time goes into asking.

func (c *cairn) FinishWrite() {
	if c.state.writesInHand > 0 {
		c.run("finish")
	}
}

func (c *cairn) Apply() {
	if c.state.entriesInHand > 0 {
		c.run("apply")
	}
}

func (c *cairn) Settle() {
	if c.state.writesInHand+c.state.entriesInHand > 0 {
		c.run("settle")
	}
}

func (c *cairn) Start() {
	c.up = true
	c.run("start")
}

func (c *cairn) Crash() {
	c.up = false
	c.run("crash %d", c.world.random.Intn(int(c.state.writesInHand)+1))
	c.state.writesInHand, c.state.entriesInHand = 0, 0
}

func (c *cairn) String() string {
	return fmt.Sprintf("%d cairn up=%v %+v", c.id, c.up, c.state)
}
