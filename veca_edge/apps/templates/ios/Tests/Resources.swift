import Foundation

extension Bundle {
    /// What SwiftPM makes for the package's tests: here their resources lie in the bundle of Xcode's test target.
    static var module: Bundle { Bundle(for: GoldenTests.self) }
}
