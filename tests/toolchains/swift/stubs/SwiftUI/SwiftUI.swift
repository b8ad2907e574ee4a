// A stand-in for SwiftUI on Linux: the part that the app uses, to be type-checked against. Nothing is drawn.
@_exported import CoreGraphics
@_exported import Observation

@MainActor @preconcurrency
public protocol View {
    associatedtype Body: View
    @ViewBuilder var body: Body { get }
}
extension Never: View { public var body: Never { fatalError() } }
extension Optional: View where Wrapped: View { public var body: Never { fatalError() } }

public protocol _Leaf: View where Body == Never {}
extension _Leaf { public var body: Never { fatalError() } }

public struct _Any: _Leaf { nonisolated init() {} }
public struct EmptyView: _Leaf { public init() {} }
public struct TupleView<T>: _Leaf { init() {} }
public struct _Either<A: View, B: View>: _Leaf { init() {} }

@resultBuilder @MainActor
public struct ViewBuilder {
    public static func buildExpression<Content: View>(_ content: Content) -> Content { content }
    public static func buildBlock() -> EmptyView { EmptyView() }
    public static func buildBlock<Content: View>(_ content: Content) -> Content { content }
    public static func buildBlock<each Content: View>(_ content: repeat each Content) -> TupleView<(repeat each Content)> {
        TupleView()
    }
    public static func buildIf<Content: View>(_ content: Content?) -> Content? { content }
    public static func buildEither<A: View, B: View>(first: A) -> _Either<A, B> { _Either() }
    public static func buildEither<A: View, B: View>(second: B) -> _Either<A, B> { _Either() }
}

@MainActor @preconcurrency
public protocol Scene {}
@MainActor @preconcurrency
public protocol App {
    associatedtype Body: Scene
    var body: Body { get }
    init()
}
extension App { public static func main() { _ = Self().body } }
public struct WindowGroup<Content: View>: Scene { public init(@ViewBuilder content: () -> Content) { _ = content() } }

@propertyWrapper
public struct State<Value> {
    public init(wrappedValue: Value) { self.wrappedValue = wrappedValue }
    public var wrappedValue: Value { get { fatalError() } nonmutating set { _ = newValue } }
    public var projectedValue: Binding<Value> { Binding() }
}

@dynamicMemberLookup
public struct Binding<Value> {
    init() {}
    public subscript<Subject>(dynamicMember keyPath: WritableKeyPath<Value, Subject>) -> Binding<Subject> { Binding<Subject>() }
}

public struct LocalizedStringKey: ExpressibleByStringInterpolation {
    public init(stringLiteral value: String) {}
}
public struct Font: Sendable { public static let title2 = Font(), caption = Font() }
public struct Color: Sendable { public static let red = Color() }
extension Color: ShapeStyle {}
public protocol ShapeStyle: Sendable {}
extension ShapeStyle where Self == Color { public static var red: Color { Color() } }
public enum HorizontalAlignment { case leading, center }

public struct Text: _Leaf {
    public init(verbatim content: String) {}
    public init(_ key: LocalizedStringKey) {}
    public func font(_ font: Font?) -> Text { self }
}
public struct Image: _Leaf {
    public init(decorative cgImage: CGImage, scale: CGFloat) {}
    public func resizable() -> Image { self }
}
public struct ProgressView: _Leaf { public init(_ titleKey: LocalizedStringKey) {} }
public struct Spacer: _Leaf { public init() {} }
public struct VStack<Content: View>: _Leaf {
    public init(alignment: HorizontalAlignment = .center, spacing: CGFloat? = nil, @ViewBuilder content: () -> Content) {}
}
public struct HStack<Content: View>: _Leaf { public init(@ViewBuilder content: () -> Content) {} }
public struct ForEach<Data: RandomAccessCollection, ID: Hashable, Content: View>: _Leaf {
    public init(_ data: Data, id: KeyPath<Data.Element, ID>, @ViewBuilder content: @escaping (Data.Element) -> Content) {}
}
public struct Button: _Leaf {
    public init<S: StringProtocol>(_ title: S, action: @escaping @MainActor () -> Void) {}
}
public struct Toggle: _Leaf { public init(_ key: LocalizedStringKey, isOn: Binding<Bool>) {} }
public struct Slider: _Leaf {
    public init<V: BinaryFloatingPoint>(value: Binding<V>, in bounds: ClosedRange<V>) {}
}
public struct Picker<Selection: Hashable, Content: View>: _Leaf {
    public init(_ key: LocalizedStringKey, selection: Binding<Selection>, @ViewBuilder content: () -> Content) {}
}

public protocol PickerStyle {}
public struct SegmentedPickerStyle: PickerStyle {}
extension PickerStyle where Self == SegmentedPickerStyle { public static var segmented: Self { Self() } }
public protocol PrimitiveButtonStyle {}
public struct BorderedButtonStyle: PrimitiveButtonStyle {}
extension PrimitiveButtonStyle where Self == BorderedButtonStyle { public static var bordered: Self { Self() } }

extension View {
    public func padding() -> some View { _Any() }
    public func scaledToFit() -> some View { _Any() }
    public func foregroundStyle<S: ShapeStyle>(_ style: S) -> some View { _Any() }
    public func font(_ font: Font?) -> some View { _Any() }
    public func disabled(_ disabled: Bool) -> some View { _Any() }
    public func tag<V: Hashable>(_ tag: V) -> some View { _Any() }
    public func pickerStyle<S: PickerStyle>(_ style: S) -> some View { _Any() }
    public func buttonStyle<S: PrimitiveButtonStyle>(_ style: S) -> some View { _Any() }
    public func task(_ action: sending @escaping @isolated(any) () async -> Void) -> some View { _Any() }
}
