package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// One of the two endpoints, with what only this one knows.
type target struct {
	name     string
	endpoint string
	version  string
	conn     *grpc.ClientConn

	clusterID uint64
	memberID  uint64
	members   map[string]uint64 // ids of members that were added, by the name the script gives them
	tokens    map[string]string // by user
}

// Sends and receives bytes as they are.
type rawCodec struct{}

func (rawCodec) Marshal(value any) ([]byte, error) { return *value.(*[]byte), nil }
func (rawCodec) Unmarshal(data []byte, value any) error {
	*value.(*[]byte) = append([]byte(nil), data...)
	return nil
}
func (rawCodec) Name() string { return "proto" }

func connect(ctx context.Context, name, endpoint string) (*target, error) {
	conn, err := grpc.NewClient("passthrough:///"+endpoint,
		grpc.WithTransportCredentials(transportCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(rawCodec{}), grpc.MaxCallRecvMsgSize(1<<30),
			grpc.MaxCallSendMsgSize(1<<30), grpc.WaitForReady(false)))
	if err != nil {
		return nil, err
	}
	t := &target{name: name, endpoint: endpoint, conn: conn, members: map[string]uint64{}, tokens: map[string]string{}}
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		got := t.unary(ctx, call{path: "/etcdserverpb.Maintenance/Status", answer: &pb.StatusResponse{}}, nil)
		if got.code == 0 {
			status := got.messages[0].(*pb.StatusResponse)
			// A fresh etcd says 3.5.0 until it has looked at its cluster version, every four seconds.
			behind := status.StorageVersion != "" && minor(status.StorageVersion) != minor(status.Version)
			if status.Leader != 0 && (!behind || time.Since(begin) > 20*time.Second) {
				t.version, t.memberID, t.clusterID = status.Version, status.Header.MemberId, status.Header.ClusterId
				return t, nil
			}
		}
		if time.Since(begin) > 30*time.Second || ctx.Err() != nil {
			return nil, fmt.Errorf("%s does not answer: %s", endpoint, got.text)
		}
	}
}

// "3.7" of "3.7.1".
func minor(version string) string { return version[:max(0, strings.LastIndexByte(version, '.'))] }

func (t *target) close() { _ = t.conn.Close() }

// How a request is sent: which rpc, as which user, how long it may take, and what the answer is.
type call struct {
	path     string
	user     string // "": without a token
	timeout  time.Duration
	answer   proto.Message // a prototype
	metadata map[string]string
	stream   bool // the server answers with a stream
}

// What came back.
type outcome struct {
	code     uint32
	text     string
	messages []proto.Message
	broken   string            // an answer that is not the message it should be
	extra    map[string]string // of an answer that is no message: HTTP
}

const defaultTimeout = 20 * time.Second

func (t *target) context(ctx context.Context, c call) (context.Context, context.CancelFunc) {
	timeout := c.timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	if token, known := t.tokens[c.user]; known {
		ctx = metadata.AppendToOutgoingContext(ctx, "token", token)
	} else if c.user != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "token", c.user+".1") // nobody ever got this one
	}
	for key, value := range c.metadata {
		ctx = metadata.AppendToOutgoingContext(ctx, key, value)
	}
	return ctx, cancel
}

func (t *target) unary(ctx context.Context, c call, request []byte) *outcome {
	if c.stream {
		return t.serverStream(ctx, c, request)
	}
	ctx, cancel := t.context(ctx, c)
	defer cancel()
	var answer []byte
	out := &outcome{}
	if err := t.conn.Invoke(ctx, c.path, &request, &answer); err != nil {
		out.fail(err)
		return out
	}
	out.add(c.answer, answer)
	return out
}

func (t *target) serverStream(ctx context.Context, c call, request []byte) *outcome {
	ctx, cancel := t.context(ctx, c)
	defer cancel()
	out := &outcome{}
	stream, err := t.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, c.path)
	if err == nil {
		if err = stream.SendMsg(&request); err == nil {
			err = stream.CloseSend()
		}
	}
	for err == nil {
		var answer []byte
		if err = stream.RecvMsg(&answer); err == nil {
			out.add(c.answer, answer)
		}
	}
	if err != io.EOF {
		out.fail(err)
	}
	return out
}

func (o *outcome) fail(err error) {
	got := status.Convert(err)
	// Go's protobuf library writes a space or a no-break space here, at random from build to build, on purpose.
	o.code, o.text = uint32(got.Code()), strings.ReplaceAll(got.Message(), "proto:\u00a0", "proto: ")
	if len(got.Details()) > 0 {
		o.broken = fmt.Sprintf("error details %v", got.Details())
	}
}

func (o *outcome) add(prototype proto.Message, bytes []byte) {
	message := prototype.ProtoReflect().New().Interface()
	if err := proto.Unmarshal(bytes, message); err != nil {
		o.broken = fmt.Sprintf("%v in %x", err, bytes)
		return
	}
	o.messages = append(o.messages, message)
}
