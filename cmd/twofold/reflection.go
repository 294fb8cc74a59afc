package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// callByReflection makes a unary call "package.Service/Method" of JSON in and out, with the descriptors that the server gives of itself and
// none of this program's own: what grpcurl does.
func callByReflection(ctx context.Context, conn *grpc.ClientConn, name string, request []byte) ([]byte, error) {
	service, method, ok := strings.Cut(name, "/")
	if !ok {
		return nil, fmt.Errorf("%q is not package.Service/Method", name)
	}
	descriptor, err := describeService(ctx, conn, service)
	if err != nil {
		return nil, fmt.Errorf("reflection: %w", err)
	}
	m := descriptor.Methods().ByName(protoreflect.Name(method))
	if m == nil {
		return nil, fmt.Errorf("reflection: the service %s has no method %s", service, method)
	}
	in, out := dynamicpb.NewMessage(m.Input()), dynamicpb.NewMessage(m.Output())
	if err := protojson.Unmarshal(request, in); err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	if err := conn.Invoke(ctx, "/"+name, in, out); err != nil {
		return nil, err
	}
	return protojson.Marshal(out)
}

// describeService asks the server for a service's descriptor.
func describeService(ctx context.Context, conn *grpc.ClientConn, service string) (protoreflect.ServiceDescriptor, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		return nil, err
	}
	files := &descriptorpb.FileDescriptorSet{}
	seen := map[string]bool{}
	ask := func(request *reflectionpb.ServerReflectionRequest) error {
		if err := stream.Send(request); err != nil {
			return err
		}
		answer, err := stream.Recv()
		if err != nil {
			return err
		}
		if e := answer.GetErrorResponse(); e != nil {
			return errors.New(e.GetErrorMessage())
		}
		return addFiles(files, seen, answer.GetFileDescriptorResponse().GetFileDescriptorProto())
	}
	err = ask(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: service}})
	// A server may leave it to the client to ask for what a file imports.
	for i := 0; err == nil && i < len(files.GetFile()); i++ {
		for _, name := range files.GetFile()[i].GetDependency() {
			if err == nil && !seen[name] {
				err = ask(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_FileByFilename{FileByFilename: name}})
			}
		}
	}
	if err != nil {
		return nil, err
	}
	registry, err := protodesc.NewFiles(files)
	if err != nil {
		return nil, err
	}
	d, err := registry.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		return nil, err
	}
	s, ok := d.(protoreflect.ServiceDescriptor)
	if !ok {
		return nil, fmt.Errorf("%s is not a service", service)
	}
	return s, nil
}

func addFiles(files *descriptorpb.FileDescriptorSet, seen map[string]bool, encoded [][]byte) error {
	for _, b := range encoded {
		file := &descriptorpb.FileDescriptorProto{}
		if err := proto.Unmarshal(b, file); err != nil {
			return err
		}
		if !seen[file.GetName()] {
			seen[file.GetName()] = true
			files.File = append(files.File, file)
		}
	}
	return nil
}
