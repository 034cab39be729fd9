package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sort"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// gRPC as no client library speaks it: headers and frames made by hand, one call to a connection.
type wireCall struct {
	name    string
	headers [][2]string
	data    []byte
	open    bool // the client does not end its side
	at      bool // it ends it with the headers
}

// How long a call may stay without an answer: most are answered at once, and few tests have none.
const wireTimeout = 400 * time.Millisecond

func framed(flag byte, message []byte) []byte {
	out := binary.BigEndian.AppendUint32([]byte{flag}, uint32(len(message)))
	return append(out, message...)
}

func gzipped(message []byte) []byte {
	var out bytes.Buffer
	writer := gzip.NewWriter(&out)
	_, _ = writer.Write(message)
	_ = writer.Close()
	return out.Bytes()
}

func (g *gen) wireCall() wireCall {
	path := kv + "Range"
	message, err := proto.Marshal(&pb.RangeRequest{Key: []byte("a key that is not there")})
	if err != nil {
		panic(err)
	}
	c := wireCall{data: framed(0, message)}
	pseudo := map[string]string{":method": "POST", ":scheme": "http", ":authority": "localhost"}
	plain := [][2]string{{"content-type", "application/grpc"}, {"te", "trailers"}}
	with := func(name, value string) { plain = append(plain, [2]string{name, value}) }
	without := func(name string) {
		for i, header := range plain {
			if header[0] == name {
				plain = append(plain[:i:i], plain[i+1:]...)
				return
			}
		}
	}
	switch choice := g.random.Intn(20); choice {
	case 0:
		c.name = "as it should be"
	case 1:
		value := pickOf(g, "", "gzip", "trailers, deflate", "Trailers")
		c.name = fmt.Sprintf("te %q", value)
		without("te")
		if value != "" {
			with("te", value)
		}
	case 2, 3:
		value := pickOf(g, "none", "", "application/grpc+proto", "application/grpc;charset=utf-8", "application/grpc+json",
			"application/grpc+", "application/grpc-web", "application/grpcx", "application/json", "APPLICATION/GRPC", "text/plain")
		c.name = fmt.Sprintf("content-type %q", value)
		without("content-type")
		if value != "none" {
			with("content-type", value)
		}
	case 4:
		pseudo[":method"] = pickOf(g, "GET", "PUT", "HEAD", "post", "OPTIONS")
		c.name = "method " + pseudo[":method"]
	case 5, 6:
		encoding := pickOf(g, "gzip", "gzip", "identity", "snappy", "deflate", "GZIP", "")
		flag := byte(g.random.Intn(2))
		c.name = fmt.Sprintf("encoding %q, flag %d", encoding, flag)
		with("grpc-encoding", encoding)
		if flag == 1 {
			c.data = framed(1, gzipped(message))
			if g.oneIn(4) {
				c.name += ", damaged"
				damaged := gzipped(message)
				switch g.random.Intn(5) {
				case 0:
					damaged = damaged[:12]
				case 1:
					damaged = damaged[:5]
				case 2:
					damaged = []byte("this is no gzip")
				case 3:
					damaged[len(damaged)-5] ^= 1
				case 4:
					damaged = nil
				}
				c.data = framed(1, damaged)
			}
		}
	case 7:
		value := pickOf(g, "gzip", "identity,gzip", "identity", "snappy")
		c.name = "accepts " + value
		with("grpc-accept-encoding", value)
	case 8:
		flag := pickOf[byte](g, 1, 2, 0x80, 0xff)
		c.name = fmt.Sprintf("flag %d", flag)
		c.data = framed(flag, message)
	case 9:
		cut := 1 + g.random.Intn(len(c.data)-1)
		c.name = fmt.Sprintf("cut off \"by %d bytes", cut)
		c.data = c.data[:len(c.data)-cut]
		if g.oneIn(2) {
			path = kv + "RangeStream"
		}
	case 10:
		c.name = "two messages"
		c.data = append(c.data, c.data...)
		if g.oneIn(2) {
			path = kv + "RangeStream"
		}
	case 11:
		c.name = "no message"
		c.data = nil
		if g.oneIn(20) { // Go's server does not answer then
			c.name, c.at = "headers alone", true
		}
		if g.oneIn(2) {
			path = kv + "RangeStream"
		}
	case 12, 13:
		value := pickOf(g, "1H", "5S", "99999999M", "999999999n", "0S", "-1S", "1x", "", "S", "5", "1 S", "+1S", "99999999H")
		c.name = fmt.Sprintf("timeout %q", value)
		with("grpc-timeout", value)
	case 14:
		size := pickOf(g, 1000, 5000, 20_000, 60_000, 100_000)
		c.name = fmt.Sprintf("%d bytes of metadata", size)
		with("x-large", strings.Repeat("x", size))
	case 15:
		value := pickOf(g, "AAEC", "AAE=", "AAE", "", "!", "AA EC", "AAEC,AAEC")
		c.name = fmt.Sprintf("binary metadata %q", value)
		with("x-bin", value)
	case 16:
		header := pickOf(g, [2]string{"X-Upper", "1"}, [2]string{"connection", "close"}, [2]string{"x y", "1"}, [2]string{"grpc-tags-bin", "AAEC"},
			[2]string{"host", "other"}, [2]string{"grpc-status", "0"}, [2]string{":unknown", "1"}, [2]string{"token", "nobody.1"},
			[2]string{"hasleader", "true"}, [2]string{"content-length", "1"}, [2]string{"x-control", "a\x01b"}, [2]string{"grpc-previous-rpc-attempts", "x"})
		c.name = fmt.Sprintf("%s: %q", header[0], header[1])
		with(header[0], header[1])
	case 17:
		name := pickOf(g, ":scheme", ":authority", ":method", ":path")
		c.name = "without " + name
		if name == ":path" {
			path = ""
		}
		delete(pseudo, name)
	case 18:
		path = pickOf(g, "etcdserverpb.KV/Range", path+"?x=1", path+"/", "//etcdserverpb.KV/Range", "/etcdserverpb.KV%2fRange", "/", "*", "/x", "/ETCDSERVERPB.KV/Range")
		c.name = fmt.Sprintf("path %q", path)
	case 19:
		c.name = "the client's side stays open"
		c.open = true
		if g.oneIn(2) {
			c.data = nil // and nothing is asked
			if !g.oneIn(10) {
				with("grpc-timeout", "50m")
				c.name += ", no message, a deadline"
			}
		}
	}
	if path != "" {
		c.headers = append(c.headers, [2]string{":path", path})
	}
	for _, name := range []string{":method", ":scheme", ":authority"} {
		if value, there := pseudo[name]; there {
			c.headers = append(c.headers, [2]string{name, value})
		}
	}
	c.headers = append(c.headers, plain...)
	return c
}

func (g *gen) grpcStep() step {
	c := g.wireCall()
	return step{
		rpc: "gRPC " + strings.SplitN(c.name, " \"", 2)[0],
		do:  func(ctx context.Context, t *target) *outcome { return t.wire(ctx, c) },
		say: func() string { return short(fmt.Sprintf("%s: %q", c.name, c.headers)) },
	}
}

func (t *target) wire(ctx context.Context, c wireCall) *outcome {
	out := &outcome{extra: map[string]string{"end": "none"}}
	conn, err := dialHTTP2(ctx, t.endpoint)
	if err != nil {
		out.code, out.text = 14, err.Error()
		return out
	}
	defer conn.Close()
	if err := c.send(conn); err != nil {
		out.broken = err.Error()
		return out
	}
	_ = conn.SetReadDeadline(time.Now().Add(wireTimeout))
	framer := http2.NewFramer(io.Discard, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	var data []byte
	for blocks := 0; ; {
		frame, err := framer.ReadFrame()
		if err != nil {
			var netError net.Error
			if !errors.As(err, &netError) || !netError.Timeout() {
				out.extra["end"] = "the connection is closed"
			}
			break
		}
		if done := out.take(frame, &data, &blocks); done {
			break
		}
	}
	out.extra["messages"] = messagesOf(data)
	return out
}

func (c *wireCall) send(conn io.Writer) error {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, header := range c.headers {
		if err := encoder.WriteField(hpack.HeaderField{Name: header[0], Value: header[1]}); err != nil {
			return err
		}
	}
	var bytes bytes.Buffer
	bytes.WriteString(http2.ClientPreface)
	framer := http2.NewFramer(&bytes, nil)
	framer.AllowIllegalWrites = true
	_ = framer.WriteSettings()
	const frameMax = 16384
	first := block.Next(frameMax)
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: first, EndHeaders: block.Len() == 0,
		EndStream: c.at})
	for block.Len() > 0 {
		next := block.Next(frameMax)
		_ = framer.WriteContinuation(1, block.Len() == 0, next)
	}
	if !c.at && (len(c.data) > 0 || !c.open) {
		_ = framer.WriteData(1, !c.open, c.data)
	}
	_, _ = conn.Write(bytes.Bytes()) // the other side may have closed already
	return nil
}

// take notes a frame; true when the call is over.
func (o *outcome) take(frame http2.Frame, data *[]byte, blocks *int) bool {
	switch frame := frame.(type) {
	case *http2.MetaHeadersFrame:
		var texts []string
		for _, field := range frame.Fields {
			isEmptyMessage := field.Name == "grpc-message" && field.Value == "" // Go sends it with every status
			if field.Name != "date" && field.Name != "content-length" && !isEmptyMessage {
				text := fmt.Sprintf("%s: %s", field.Name, field.Value)
				texts = append(texts, strings.ReplaceAll(text, "proto:\u00a0", "proto: "))
			}
		}
		sort.Strings(texts)
		o.extra[fmt.Sprintf("headers[%d]", *blocks)] = strings.Join(texts, ", ")
		*blocks++
		if frame.StreamEnded() {
			o.extra["end"] = "ended"
			return true
		}
	case *http2.DataFrame:
		*data = append(*data, frame.Data()...)
		if frame.StreamEnded() {
			o.extra["end"] = "ended with data"
			return true
		}
	case *http2.RSTStreamFrame:
		o.extra["end"] = "reset " + frame.ErrCode.String()
		return true
	case *http2.GoAwayFrame:
		o.extra["end"] = fmt.Sprintf("goaway %s %s", frame.ErrCode, frame.DebugData())
		return true
	}
	return false
}

func messagesOf(data []byte) string {
	var texts []string
	for len(data) >= 5 {
		length := int(binary.BigEndian.Uint32(data[1:]))
		if len(data) < 5+length {
			break
		}
		texts = append(texts, fmt.Sprintf("flag %d", data[0]))
		data = data[5+length:]
	}
	if len(data) > 0 {
		texts = append(texts, fmt.Sprintf("%d bytes more", len(data)))
	}
	return strings.Join(texts, ", ")
}

// What such a call counts as in the coverage.
func (o *outcome) wireAnswer() string {
	if o.extra["end"] == "" {
		return ""
	}
	var texts []string
	for i := 0; o.extra[fmt.Sprintf("headers[%d]", i)] != ""; i++ {
		texts = append(texts, o.extra[fmt.Sprintf("headers[%d]", i)])
	}
	return strings.Join(append(texts, o.extra["end"]), " | ")
}
